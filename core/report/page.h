// core/report/page.h: runs as one HTML page: inline SVG, nothing fetched, no scripts.
#pragma once

#include <string>
#include <vector>

#include "core/report/run_record.h"

namespace shoal {

// At least one run. `produced`: when, for the footer.
std::string report_page(const std::vector<RunRecord>& runs, const std::string& produced);

// A chart of the page alone, as a picture. The difference is that of at least two runs: throws Error.
enum class Picture { kLoss, kLossDifference, kViolation };
std::string picture_of(const std::vector<RunRecord>& runs, Picture picture);

}  // namespace shoal
