// core/report/views.h: what several sections ask of runs: curves, medians, shares, what went wrong, what it cost.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/report/chart.h"
#include "core/report/run_record.h"

namespace shoal {

using StepValue = std::function<double(const StepMetrics&)>;

Points by_step(const RunRecord& run, const StepValue& value);
Points by_tokens(const RunRecord& run, const StepValue& value);

// A chart over steps, over tokens.
std::string draw_over_steps(std::string title, Axis y, std::vector<Series> series);
std::string draw_over_tokens(std::string title, Axis y, std::vector<Series> series);

// One line a run, in the run's colour; labels and dashes where there are several.
std::vector<Series> lines_of(const std::vector<RunRecord>& runs, const std::function<Points(const RunRecord&)>& points);
std::vector<Series> lines_over_steps(const std::vector<RunRecord>& runs, const StepValue& value);
std::string run_label(const std::vector<RunRecord>& runs, size_t run);

// Over the steps behind the first tenth, which fills caches.
double warm_median(const RunRecord& run, const StepValue& value);
double exposed_share(const StepMetrics& step);  // of the step of the rank that waited longest
// Mean milliseconds of a step by kind, over the same steps; NaN where records have none.
double warm_mean(const RunRecord& run, const StepValue& value);

// The mean over the last twentieth of the steps, and how many these are.
struct LastLoss {
  double loss = 0;
  size_t steps = 0;
};
LastLoss last_loss(const RunRecord& run);

// Of the whole run, by its config; 0: not known.
int64_t planned_steps(const RunRecord& run);
int64_t planned_tokens(const RunRecord& run);

struct Incident {
  int64_t step = 0;
  int64_t tokens = 0;
  int64_t unix_s = 0;  // 0: not known
  std::string what;
};
// In the order of steps.
std::vector<Incident> incidents_of(const RunRecord& run);

// Hours of one GPU, or of one rank on CPUs; NaN where records do not say enough.
struct RunCost {
  double hours = 0;           // all that was held, over all starts
  double step_hours = 0;      // of these, in steps that count
  double repeated_hours = 0;  // in steps that were done again
  bool steps_alone = false;   // records of an older version: hours outside steps are not known
  double hours_per_t = 0;     // per 10^12 tokens, at the cost so far
  double whole_hours = 0;     // of the planned run, the rest of it at the median speed
  double usd_per_hour = 0;    // 0: not told
};
RunCost cost_of(const RunRecord& run);
// "GPU-hours", "rank-hours"
std::string hours_name(std::span<const RunRecord> runs);

// "12.3 %"; "–" for what is not finite.
std::string percent(double share);
std::string bytes_text(double bytes);
std::string usd_text(double usd);

}  // namespace shoal
