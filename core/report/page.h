// core/report/page.h: runs as one HTML page: inline SVG, nothing fetched, no scripts.
#pragma once

#include <string>
#include <vector>

#include "core/report/run_record.h"

namespace shoal {

// At least one run. `produced`: when, for the footer.
std::string report_page(const std::vector<RunRecord>& runs, const std::string& produced);

// The loss chart alone, as a picture.
std::string loss_picture(const std::vector<RunRecord>& runs);

}  // namespace shoal
