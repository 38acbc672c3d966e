// core/report/section_training.cpp: losses, gradients, learning rate, batch.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/svg_text.h"
#include "core/report/views.h"

namespace shoal {

namespace {

// Weight of the past in the smooth curve: 20 steps count, fewer in a short run, where their mean would lag behind.
double past_of(const RunRecord& run) {
  return std::clamp(1 - 16 / static_cast<double>(run.metrics.steps.size() + 1), 0.0, 0.95);
}

Points validation_points(const RunRecord& run) {
  Points points;
  for (const ValidationMetrics& m : run.metrics.validations) points.add(static_cast<double>(m.tokens), m.val_loss);
  return points;
}

// Where both have a value.
Points less(const Points& points, const Points& others) {
  std::map<double, double> other_at;
  for (size_t i = 0; i < others.size(); ++i) other_at[others.x[i]] = others.y[i];
  Points differences;
  for (size_t i = 0; i < points.size(); ++i) {
    const auto other = other_at.find(points.x[i]);
    if (other != other_at.end()) differences.add(points.x[i], points.y[i] - other->second);
  }
  return differences;
}

Points behind(const Points& points, double least_x) {
  Points rest;
  for (size_t i = 0; i < points.size(); ++i) {
    if (points.x[i] >= least_x) rest.add(points.x[i], points.y[i]);
  }
  return rest;
}

Points training_points(const RunRecord& run) {
  return by_tokens(run, [](const StepMetrics& m) { return m.loss; });
}

bool any_value(const std::vector<RunRecord>& runs, const StepValue& value) {
  return std::ranges::any_of(runs, [&](const RunRecord& run) {
    return std::ranges::any_of(run.metrics.steps, [&](const StepMetrics& step) {
      const double one = value(step);
      return std::isfinite(one) && one != 0;
    });
  });
}

std::string small_loss(const std::vector<RunRecord>& runs, const std::string& title, const StepValue& value) {
  return draw_over_tokens(title, {.name = "nats"},
                          lines_of(runs, [&](const RunRecord& run) { return by_tokens(run, value); }));
}

}  // namespace

Chart loss_chart(const std::vector<RunRecord>& runs) {
  Chart chart;
  chart.title = "Loss";
  chart.x.name = "tokens";
  chart.y.name = "nats a token";
  chart.width = 1140;
  chart.height = 380;
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string label = runs.size() > 1 ? runs[i].name : "training";
    const std::string dash = runs.size() > 1 ? run_dash(i) : "";
    const Points raw = training_points(runs[i]);
    chart.series.push_back({.label = "", .points = raw, .colour = run_colour(i), .mark = Mark::kFaintLine});
    chart.series.push_back({.label = label,
                            .points = smoothed(raw, past_of(runs[i])),
                            .colour = run_colour(i),
                            .dash = dash,
                            .mark = Mark::kLine});
    chart.series.push_back({.label = runs.size() > 1 ? "" : "validation",
                            .points = validation_points(runs[i]),
                            .colour = runs.size() > 1 ? run_colour(i) : run_colour(1),
                            .mark = Mark::kDots});
    for (const Incident& incident : incidents_of(runs[i])) {
      const std::string where = runs.size() > 1 ? runs[i].name + ": " : "";
      chart.events.push_back({.x = static_cast<double>(incident.tokens), .what = where + incident.what});
    }
  }
  const auto with_ngram = std::ranges::find_if(runs, [](const RunRecord& run) { return run.ngram.has_value(); });
  if (with_ngram == runs.end()) return chart;
  for (const auto& [name, nats] :
       {std::pair{"unigram", with_ngram->ngram->unigram_nats}, std::pair{"bigram", with_ngram->ngram->bigram_nats}}) {
    Points at;
    at.add(0, nats);
    chart.series.push_back({.label = fmt::format("{} entropy {:.3f}", name, nats),
                            .points = at,
                            .colour = "var(--muted)",
                            .mark = Mark::kLevel});
  }
  return chart;
}

Chart loss_difference_chart(const std::vector<RunRecord>& runs) {
  Chart chart;
  chart.title = runs.empty() ? "Loss" : fmt::format("Loss, less that of {}", runs[0].name);
  chart.x.name = "tokens";
  chart.y.name = "nats a token";
  chart.width = 1140;
  chart.height = 300;
  Points same;
  same.add(0, 0);
  chart.series.push_back({.label = "", .points = same, .colour = "var(--muted)", .mark = Mark::kLevel});
  for (size_t i = 1; i < runs.size(); ++i) {
    const RunRecord& run = runs[i];
    const double first_tenth = run.last() != nullptr ? static_cast<double>(run.last()->tokens) / 10 : 0;
    const Points mean = smoothed(less(training_points(run), training_points(runs[0])), past_of(run));
    chart.series.push_back({.label = run.name,
                            .points = behind(mean, first_tenth),
                            .colour = run_colour(i),
                            .dash = runs.size() > 2 ? run_dash(i) : "",
                            .mark = Mark::kLine});
    chart.series.push_back({.label = "",
                            .points = behind(less(validation_points(run), validation_points(runs[0])), first_tenth),
                            .colour = run_colour(i),
                            .mark = Mark::kDots});
  }
  return chart;
}

std::string loss_section(const std::vector<RunRecord>& runs) {
  const auto mtp = [](const StepMetrics& m) { return m.mtp_loss; };
  const auto aux = [](const StepMetrics& m) { return m.aux_loss; };
  std::vector<std::string> charts;
  const auto norms = [](const RunRecord& run) {
    return by_tokens(run, [](const StepMetrics& m) { return m.grad_norm; });
  };
  charts.push_back(
      draw_over_tokens("Gradient norm", {.name = "before clipping", .logarithmic = true}, lines_of(runs, norms)));
  if (any_value(runs, mtp)) charts.push_back(small_loss(runs, "Multi-token prediction", mtp));
  if (any_value(runs, aux)) charts.push_back(small_loss(runs, "Balance losses, as they are weighted", aux));
  return section("loss", "Loss",
                 "Faint: each step's training loss; strong: its exponential mean, over about 20 steps in long runs; "
                 "dots: validation; triangles: incidents, listed below.",
                 wide_figure(draw(loss_chart(runs))) +
                     (runs.size() > 1 ? wide_figure(draw(loss_difference_chart(runs))) : "") + figures(charts));
}

std::string schedule_section(const std::vector<RunRecord>& runs) {
  const auto batch = lines_of(runs, [](const RunRecord& run) {
    const double seq_len = run.config ? static_cast<double>(run.config->data().seq_len()) : NAN;
    return by_step(run, [=](const StepMetrics& m) { return static_cast<double>(m.sequences) * seq_len; });
  });
  return section("schedule", "Learning rate and batch", "",
                 figures({draw_over_steps("Learning rate", {.name = "", .from_zero = true},
                                          lines_over_steps(runs, [](const StepMetrics& m) { return m.lr; })),
                          draw_over_steps("Batch", {.name = "tokens a step", .from_zero = true}, batch)}));
}

}  // namespace shoal
