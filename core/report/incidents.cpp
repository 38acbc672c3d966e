// core/report/incidents.cpp: what went wrong in a run, from the marks that it left in its records and its folder.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/report/svg_text.h"
#include "core/report/views.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

int64_t unix_time(const JobTime& job) {
  return job.start_unix_s > 0 && job.job_s >= 0 ? job.start_unix_s + std::llround(job.job_s) : 0;
}

const StepMetrics* find_step(const RunRecord& run, int64_t step) {
  const auto& steps = run.metrics.steps;
  const auto found = std::ranges::lower_bound(steps, step, {}, &StepMetrics::step);
  return found != steps.end() && found->step == step ? &*found : nullptr;
}

// Skipped updates, neighbours together, and saves that failed.
void add_marked_steps(const RunRecord& run, std::vector<Incident>& all) {
  const auto& steps = run.metrics.steps;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (i > 0 && steps[i].job.start_unix_s == steps[i - 1].job.start_unix_s &&
        steps[i].failed_saves > steps[i - 1].failed_saves) {
      all.push_back({.step = steps[i].step,
                     .tokens = steps[i].tokens,
                     .unix_s = unix_time(steps[i].job),
                     .what = "a checkpoint could not be saved; training went on"});
    }
    if (!steps[i].update_skipped || (i > 0 && steps[i - 1].update_skipped)) continue;
    size_t end = i + 1;
    while (end < steps.size() && steps[end].update_skipped) ++end;
    const std::string which =
        end == i + 1 ? fmt::format("the update of step {} was skipped", steps[i].step)
                     : fmt::format("the updates of steps {} to {} were skipped", steps[i].step, steps[end - 1].step);
    all.push_back(
        {.step = steps[i].step,
         .tokens = steps[i].tokens,
         .unix_s = unix_time(steps[i].job),
         .what = fmt::format("{}: loss {}, gradient norm {}", which,
                             std::isfinite(steps[i].loss) ? short_number(steps[i].loss) : "not finite",
                             std::isfinite(steps[i].grad_norm) ? short_number(steps[i].grad_norm) : "not finite")});
  }
}

void add_rewinds(const RunRecord& run, std::vector<Incident>& all) {
  for (const Rewind& rewind : run.metrics.rewinds) {
    const StepMetrics* at = find_step(run, rewind.to_step);
    const std::string lost =
        fmt::format("{} step(s) up to {}, {} of training, no longer count", rewind.from_step - rewind.to_step,
                    rewind.from_step, format_duration(rewind.step_s));
    all.push_back({.step = rewind.to_step,
                   .tokens = at != nullptr ? at->tokens : 0,
                   .what = rewind.new_start ? fmt::format("started again from step {}: {}", rewind.to_step, lost)
                                            : fmt::format("rolled back to step {}: {}", rewind.to_step, lost)});
  }
}

// Starts that lost nothing.
void add_clean_starts(const RunRecord& run, std::vector<Incident>& all) {
  const auto& starts = run.metrics.starts;
  for (size_t i = 1; i < starts.size(); ++i) {
    if (starts[i].first_step <= starts[i - 1].last_step) continue;
    const StepMetrics* at = find_step(run, starts[i - 1].last_step);
    all.push_back({.step = starts[i - 1].last_step,
                   .tokens = at != nullptr ? at->tokens : 0,
                   .unix_s = starts[i].start_unix_s,
                   .what = fmt::format("stopped after step {} and started again from there, on {} rank(s)",
                                       starts[i - 1].last_step, starts[i].ranks)});
  }
}

void add_flights(const RunRecord& run, std::vector<Incident>& all) {
  if (run.flights.empty()) return;
  constexpr size_t kMostNamed = 8;
  Incident incident{.step = 0, .tokens = 0, .unix_s = 0, .what = ""};
  std::string ranks;
  for (size_t i = 0; i < run.flights.size(); ++i) {
    const FlightRow& row = run.flights[i];
    incident.step = std::max(incident.step, row.step);
    incident.unix_s = std::max(incident.unix_s, row.unix_s);
    if (i < kMostNamed) ranks += fmt::format("; rank {} on {}: {}, step {}", row.rank, row.host, row.phase, row.step);
  }
  if (run.flights.size() > kMostNamed) ranks += fmt::format("; and {} more", run.flights.size() - kMostNamed);
  const StepMetrics* at = find_step(run, incident.step);
  incident.tokens = at != nullptr ? at->tokens : 0;
  incident.what = fmt::format("the watchdog ended a job, the last time it did so with these ranks{}", ranks);
  all.push_back(std::move(incident));
}

}  // namespace

std::vector<Incident> incidents_of(const RunRecord& run) {
  std::vector<Incident> all;
  add_marked_steps(run, all);
  add_rewinds(run, all);
  add_clean_starts(run, all);
  add_flights(run, all);
  std::ranges::stable_sort(all, {}, &Incident::step);
  return all;
}

}  // namespace shoal
