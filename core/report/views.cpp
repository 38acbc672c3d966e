// core/report/views.cpp: small sums over steps.
#include "core/report/views.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/check.h"
#include "core/report/svg_text.h"
#include "core/train/progress.h"
#include "core/train/rank_timing.h"
#include "optim/batch_schedule.h"

namespace shoal {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// What is finite.
std::vector<double> warm_values(const RunRecord& run, const StepValue& value) {
  const std::vector<StepMetrics>& steps = run.metrics.steps;
  std::vector<double> values;
  for (size_t i = steps.size() / 10; i < steps.size(); ++i) {
    if (const double one = value(steps[i]); std::isfinite(one)) values.push_back(one);
  }
  return values;
}

}  // namespace

Points by_step(const RunRecord& run, const StepValue& value) {
  Points points;
  for (const StepMetrics& step : run.metrics.steps) points.add(static_cast<double>(step.step), value(step));
  return points;
}

Points by_tokens(const RunRecord& run, const StepValue& value) {
  Points points;
  for (const StepMetrics& step : run.metrics.steps) points.add(static_cast<double>(step.tokens), value(step));
  return points;
}

std::string draw_over_steps(std::string title, Axis y, std::vector<Series> series) {
  Chart chart;
  chart.title = std::move(title);
  chart.x.name = "step";
  chart.y = std::move(y);
  chart.series = std::move(series);
  return draw(chart);
}

std::string draw_over_tokens(std::string title, Axis y, std::vector<Series> series) {
  Chart chart;
  chart.title = std::move(title);
  chart.x.name = "tokens";
  chart.y = std::move(y);
  chart.series = std::move(series);
  return draw(chart);
}

std::string run_label(const std::vector<RunRecord>& runs, size_t run) { return runs.size() > 1 ? runs[run].name : ""; }

std::vector<Series> lines_of(const std::vector<RunRecord>& runs,
                             const std::function<Points(const RunRecord&)>& points) {
  std::vector<Series> lines;
  for (size_t i = 0; i < runs.size(); ++i) {
    lines.push_back({.label = run_label(runs, i),
                     .points = points(runs[i]),
                     .colour = run_colour(i),
                     .dash = runs.size() > 1 ? run_dash(i) : ""});
  }
  return lines;
}

std::vector<Series> lines_over_steps(const std::vector<RunRecord>& runs, const StepValue& value) {
  return lines_of(runs, [&](const RunRecord& run) { return by_step(run, value); });
}

double warm_median(const RunRecord& run, const StepValue& value) {
  const std::vector<double> values = warm_values(run, value);
  return values.empty() ? kNan : median(values);
}

double warm_mean(const RunRecord& run, const StepValue& value) {
  const std::vector<double> values = warm_values(run, value);
  return values.empty() ? kNan : std::reduce(values.begin(), values.end()) / static_cast<double>(values.size());
}

double exposed_share(const StepMetrics& step) {
  return step.waiting_step_ms > 0 ? step.exposed_comm_ms / step.waiting_step_ms : kNan;
}

LastLoss last_loss(const RunRecord& run) {
  const std::vector<StepMetrics>& steps = run.metrics.steps;
  const size_t count = std::min(steps.size(), std::max<size_t>(1, steps.size() / 20));
  double sum = 0, finite = 0;
  for (size_t i = steps.size() - count; i < steps.size(); ++i) {
    if (!std::isfinite(steps[i].loss)) continue;
    sum += steps[i].loss;
    ++finite;
  }
  return {.loss = finite > 0 ? sum / finite : kNan, .steps = count};
}

int64_t planned_steps(const RunRecord& run) {
  return run.config ? std::max<int64_t>(run.config->train().steps(), 0) : 0;
}

int64_t planned_tokens(const RunRecord& run) {
  if (!run.config) return 0;
  try {
    const double tokens = static_cast<double>(BatchSchedule(run.config->train()).total_sequences()) *
                          static_cast<double>(run.config->data().seq_len());
    return tokens > 0 && tokens < 1e18 ? static_cast<int64_t>(tokens) : 0;
  } catch (const Error&) {
    return 0;  // a config that nobody trained with
  }
}

RunCost cost_of(const RunRecord& run) {
  RunCost cost;
  const double ranks = run.ranks > 0 ? run.ranks : kNan;
  double held_s = 0, all_step_s = 0;
  for (const RunStart& start : run.metrics.starts) {
    const double of_start = start.ranks > 0 ? start.ranks : ranks;
    cost.steps_alone = cost.steps_alone || start.start_unix_s == 0;
    held_s += of_start * (start.start_unix_s == 0 ? start.step_s : start.job_s);
    all_step_s += of_start * start.step_s;
  }
  double repeated_s = 0;
  for (const Rewind& rewind : run.metrics.rewinds) repeated_s += rewind.step_s * ranks;
  cost.hours = held_s / 3600;
  cost.repeated_hours = repeated_s / 3600;
  cost.step_hours = (all_step_s - repeated_s) / 3600;
  const double tokens = run.last() != nullptr ? static_cast<double>(run.last()->tokens) : 0;
  cost.hours_per_t = tokens > 0 ? cost.hours / tokens * 1e12 : kNan;
  const double speed = warm_median(run, [](const StepMetrics& m) { return m.tokens_per_s; });
  const double rest = std::max(0.0, static_cast<double>(planned_tokens(run)) - tokens);
  cost.whole_hours = planned_tokens(run) > 0 ? cost.hours + (rest > 0 ? rest / speed * ranks / 3600 : 0) : kNan;
  if (run.config) cost.usd_per_hour = run.config->run().usd_per_gpu_hour();
  return cost;
}

std::string hours_name(std::span<const RunRecord> runs) {
  const bool on_gpus = std::ranges::all_of(
      runs, [](const RunRecord& run) { return run.summary.has_value() && run.summary->device == "cuda"; });
  return on_gpus ? "GPU-hours" : "rank-hours";
}

std::string percent(double share) {
  if (!std::isfinite(share)) return "–";
  const double value = 100 * share;
  return std::abs(value) >= 99.95 || value == 0 ? fmt::format("{:.0f} %", value) : fmt::format("{:.3g} %", value);
}

std::string bytes_text(double bytes) {
  return std::isfinite(bytes) && bytes >= 0 && bytes < 9e18 ? format_bytes(static_cast<int64_t>(bytes)) : "–";
}

std::string usd_text(double usd) {
  if (!std::isfinite(usd)) return "–";
  return usd < 10'000 ? fmt::format("${:.2f}", usd) : "$" + short_number(usd);
}

}  // namespace shoal
