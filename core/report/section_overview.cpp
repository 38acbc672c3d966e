// core/report/section_overview.cpp: a run in ten numbers; several in a table.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/check.h"
#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/svg_text.h"
#include "core/report/views.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

double speed_of(const RunRecord& run) {
  return warm_median(run, [](const StepMetrics& m) { return m.tokens_per_s; });
}
double mfu_of(const RunRecord& run) {
  return warm_median(run, [](const StepMetrics& m) { return m.mfu; });
}

double peak_memory(const RunRecord& run) {
  int64_t most = 0;
  for (const StepMetrics& step : run.metrics.steps) most = std::max(most, step.peak_memory_bytes);
  return most > 0 ? static_cast<double>(most) : NAN;
}

std::string loss_text(double loss) { return std::isfinite(loss) ? fmt::format("{:.4f}", loss) : "–"; }

std::string state_of(const RunRecord& run) {
  if (run.last() == nullptr) return "no step yet";
  if (planned_steps(run) > 0 && run.last()->step >= planned_steps(run)) return "finished";
  return "under way, or stopped";
}

std::string steps_text(const RunRecord& run) {
  const int64_t done = run.last() != nullptr ? run.last()->step : 0, planned = planned_steps(run);
  return planned > 0 && planned != done ? fmt::format("{} of {}", format_count(done), format_count(planned))
                                        : format_count(done);
}

// The kind of transfer that was waited for most.
std::string worst_kind(const RunRecord& run) {
  double most = 0;
  std::string name;
  for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
    const double ms = warm_mean(run, [kind](const StepMetrics& m) { return m.exposed_ms[kind]; });
    if (!(ms > most)) continue;
    most = ms;
    name = kWireKindNames[kind];
  }
  return name.empty() ? "" : fmt::format("most for {}", name);
}

std::string cost_text(const RunCost& cost) {
  return cost.usd_per_hour > 0 ? usd_text(cost.hours * cost.usd_per_hour) : "";
}

std::string facts_of(const RunRecord& run) {
  const LastLoss loss = last_loss(run);
  const RunCost cost = cost_of(run);
  std::vector<Fact> all;
  if (!run.metrics.validations.empty()) {
    const ValidationMetrics& last = run.metrics.validations.back();
    all.push_back({"Validation loss", loss_text(last.val_loss),
                   std::isfinite(last.val_bits_per_byte)
                       ? fmt::format("{:.3f} bits a byte, at step {}", last.val_bits_per_byte, last.step)
                       : fmt::format("nats a token, at step {}", last.step)});
  }
  all.push_back({"Training loss", loss_text(loss.loss), fmt::format("mean of the last {} step(s)", loss.steps)});
  all.push_back({"Steps", steps_text(run), state_of(run)});
  all.push_back(
      {"Tokens", run.last() != nullptr ? short_number(static_cast<double>(run.last()->tokens)) : "0",
       planned_tokens(run) > 0 ? fmt::format("of {}", short_number(static_cast<double>(planned_tokens(run)))) : ""});
  const double tflops = warm_median(run, [](const StepMetrics& m) { return m.tflops; });
  all.push_back({"Tokens/s", short_number(speed_of(run)), fmt::format("median; {} TFLOP/s", short_number(tflops))});
  all.push_back({"MFU", percent(mfu_of(run)),
                 run.summary && run.summary->peak_tflops > 0
                     ? fmt::format("of {} TFLOP/s", short_number(run.summary->peak_tflops))
                     : "median"});
  all.push_back({"Exposed communication", percent(warm_median(run, exposed_share)), worst_kind(run)});
  all.push_back({"Peak memory", bytes_text(peak_memory(run)),
                 run.summary
                     ? fmt::format("{} predicted", bytes_text(static_cast<double>(run.summary->predicted.peak_bytes)))
                     : "of the fullest rank"});
  const std::string hours = hours_name(std::span(&run, 1));
  all.push_back({hours == "GPU-hours" ? "GPU-hours" : "Rank-hours", short_number(cost.hours),
                 cost.usd_per_hour > 0 ? cost_text(cost) + " so far" : fmt::format("on {} rank(s)", run.ranks)});
  const size_t incidents = incidents_of(run).size();
  all.push_back({"Incidents", fmt::format("{}", incidents),
                 fmt::format("{} start(s), {} checkpoint(s)", std::max<size_t>(1, run.metrics.starts.size()),
                             run.checkpoints.size())});
  return facts(all);
}

std::string table_of(const std::vector<RunRecord>& runs) {
  Table table{.header = {"run", "steps", "tokens", "training loss", "validation loss", "bits/byte", "tokens/s", "MFU",
                         "exposed", "peak memory", hours_name(runs), "incidents"},
              .rows = {},
              .rows_are_runs = true};
  const bool has_money = std::ranges::any_of(runs, [](const RunRecord& run) { return cost_of(run).usd_per_hour > 0; });
  if (has_money) table.header.push_back("cost");
  for (const RunRecord& run : runs) {
    const ValidationMetrics* last = run.metrics.validations.empty() ? nullptr : &run.metrics.validations.back();
    const RunCost cost = cost_of(run);
    std::vector<std::string>& row = table.rows.emplace_back();
    row = {run.name,
           steps_text(run),
           run.last() != nullptr ? short_number(static_cast<double>(run.last()->tokens)) : "0",
           loss_text(last_loss(run).loss),
           loss_text(last != nullptr ? last->val_loss : NAN),
           last != nullptr && std::isfinite(last->val_bits_per_byte) ? fmt::format("{:.4f}", last->val_bits_per_byte)
                                                                     : "–",
           short_number(speed_of(run)),
           percent(mfu_of(run)),
           percent(warm_median(run, exposed_share)),
           bytes_text(peak_memory(run)),
           short_number(cost.hours),
           fmt::format("{}", incidents_of(run).size())};
    if (has_money) row.push_back(cost.usd_per_hour > 0 ? cost_text(cost) : "–");
  }
  return html(table);
}

}  // namespace

std::string overview_section(const std::vector<RunRecord>& runs) {
  if (runs.size() == 1) return "<section id=\"overview\">\n" + facts_of(runs[0]) + "</section>\n";
  return section("overview", "Overview",
                 "Training loss: mean of the last twentieth of the steps. Speeds and shares: medians behind the first "
                 "tenth. Exposed: the share of a step in which the rank that waited longest had nothing to compute.",
                 table_of(runs));
}

}  // namespace shoal
