// core/report/sections.h: the sections of the page, in its order. Each is there for any runs, and says what it lacks.
#pragma once

#include <string>
#include <vector>

#include "core/report/chart.h"
#include "core/report/run_record.h"

namespace shoal {

std::string overview_section(const std::vector<RunRecord>& runs);
std::string loss_section(const std::vector<RunRecord>& runs);
std::string schedule_section(const std::vector<RunRecord>& runs);
std::string speed_section(const std::vector<RunRecord>& runs);
std::string time_section(const std::vector<RunRecord>& runs);
std::string experts_section(const std::vector<RunRecord>& runs);
std::string memory_section(const std::vector<RunRecord>& runs);
std::string fp8_section(const std::vector<RunRecord>& runs);
std::string history_section(const std::vector<RunRecord>& runs);
std::string cost_section(const std::vector<RunRecord>& runs);
std::string plan_section(const std::vector<RunRecord>& runs);
std::string config_section(const std::vector<RunRecord>& runs);

// Training and validation loss over tokens, beside the n-gram entropies of the first run that has them.
Chart loss_chart(const std::vector<RunRecord>& runs);
// Of the runs after the first: their losses less the first one's after as many tokens, behind the first tenth.
Chart loss_difference_chart(const std::vector<RunRecord>& runs);
// Max violation over steps.
Chart violation_chart(const std::vector<RunRecord>& runs);

}  // namespace shoal
