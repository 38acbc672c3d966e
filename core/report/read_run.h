// core/report/read_run.h: a run folder as values.
#pragma once

#include <string>
#include <vector>

#include "core/report/run_record.h"

namespace shoal {

// The folders of runs that may still be under way. Throws Error where one holds no metrics.jsonl that can be read;
// what else is missing or broken is noted in RunRecord::problems.
std::vector<RunRecord> read_runs(const std::vector<std::string>& folders);

}  // namespace shoal
