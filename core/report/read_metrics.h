// core/report/read_metrics.h: metrics.jsonl, read back, by somebody who trusts no line of it.
#pragma once

#include <filesystem>
#include <string>

#include "core/report/run_record.h"

namespace shoal {

// Throws Error where the file cannot be read. A line that is broken, the last one cut in the middle (which a run that
// is being written, or was killed, may have), is left out, and said.
MetricsHistory read_metrics(const std::filesystem::path& file);

}  // namespace shoal
