// core/report/section_experts.cpp: how evenly tokens fall on experts: over steps, layers, and the experts of a layer.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/report/heat_map.h"
#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/views.h"
#include "optim/expert_bias.h"

namespace shoal {

namespace {

constexpr size_t kMostMaps = 6;  // runs with maps of their own

HeatScale violation_scale() {
  HeatScale scale{.bounds = {0.1, 0.25, 0.5, 1, 2, 4}, .colours = {}, .names = {}};
  for (size_t i = 0; i <= scale.bounds.size(); ++i) scale.colours.push_back(fmt::format("var(--heat{})", i));
  scale.names = {"below 0.1", "0.1 to 0.25", "0.25 to 0.5", "0.5 to 1", "1 to 2", "2 to 4", "4 and more"};
  return scale;
}

HeatScale load_scale() {
  return {.bounds = {0.5, 0.8, 1.25, 2, 4},
          .colours = {"var(--low2)", "var(--low1)", "var(--even)", "var(--high1)", "var(--high2)", "var(--high3)"},
          .names = {"below 0.5", "0.5 to 0.8", "0.8 to 1.25", "1.25 to 2", "2 to 4", "4 and more"}};
}

// MoE layers as the network counts its blocks, from 0.
std::vector<std::string> layer_names(const RunRecord& run, size_t layers) {
  const int64_t first = run.config ? run.config->model().moe().first_dense_layers() : 0;
  std::vector<std::string> names;
  for (size_t i = 0; i < layers; ++i) names.push_back(fmt::format("{}", first + static_cast<int64_t>(i)));
  return names;
}

std::vector<const StepMetrics*> recorded(const RunRecord& run) {
  std::vector<const StepMetrics*> steps;
  for (const StepMetrics& step : run.metrics.steps) {
    // A run that went on with other layers or experts is shown from there.
    if (!step.expert_load.empty()) steps.push_back(&step);
  }
  if (steps.empty()) return steps;
  const auto fits = [last = steps.back()](const StepMetrics* step) {
    return step->expert_load.size() == last->expert_load.size() &&
           step->expert_load.front().size() == last->expert_load.front().size();
  };
  std::erase_if(steps, [&](const StepMetrics* step) { return !fits(step); });
  return steps;
}

std::string over_steps(const RunRecord& run, const std::string& prefix) {
  const std::vector<const StepMetrics*> steps = recorded(run);
  const size_t layers = steps.back()->expert_load.size();
  HeatMap map{.title = prefix + "Expert load, layers over steps",
              .subtitle = "max violation of a layer: its fullest expert's load over the mean, less 1",
              .x_name = "step",
              .y_name = "layer",
              .row_names = layer_names(run, layers),
              .column_names = {},
              .rows = std::vector<std::vector<double>>(layers),
              .scale = violation_scale()};
  for (const StepMetrics* step : steps) {
    map.column_names.push_back(fmt::format("{}", step->step));
    for (size_t layer = 0; layer < layers; ++layer) {
      map.rows[layer].push_back(max_violation(step->expert_load[layer]));
    }
  }
  return draw(map);
}

std::string over_experts(const RunRecord& run, const std::string& prefix) {
  const StepMetrics& last = *recorded(run).back();
  const size_t experts = last.expert_load.front().size();
  HeatMap map{.title = fmt::format("{}Expert load of step {}, layers over experts", prefix, last.step),
              .subtitle = "tokens of an expert, over the layer's mean",
              .x_name = "expert",
              .y_name = "layer",
              .row_names = layer_names(run, last.expert_load.size()),
              .column_names = {},
              .rows = {},
              .scale = load_scale()};
  for (size_t expert = 0; expert < experts; ++expert) map.column_names.push_back(fmt::format("{}", expert));
  for (const std::vector<int64_t>& layer : last.expert_load) {
    const double total = static_cast<double>(std::accumulate(layer.begin(), layer.end(), int64_t{0}));
    std::vector<double>& row = map.rows.emplace_back();
    for (const int64_t tokens : layer) {
      row.push_back(total > 0 ? static_cast<double>(tokens) * static_cast<double>(experts) / total : NAN);
    }
  }
  return draw(map);
}

}  // namespace

Chart violation_chart(const std::vector<RunRecord>& runs) {
  Chart violation;
  violation.title = "Max violation";
  violation.x.name = "step";
  violation.y.name = "of the worst layer; 0 is balanced";
  violation.y.from_zero = true;
  violation.series = lines_over_steps(runs, [](const StepMetrics& m) { return m.expert_load_max_violation; });
  violation.width = 1140;
  violation.height = 260;
  return violation;
}

std::string experts_section(const std::vector<RunRecord>& runs) {
  const bool has_experts = std::ranges::any_of(runs, [](const RunRecord& run) {
    const bool is_moe = !run.config || run.config->model().has_moe();
    return is_moe && std::ranges::any_of(run.metrics.steps, [](const StepMetrics& m) {
             return m.expert_load_max_violation > 0 || !m.expert_load.empty();
           });
  });
  if (!has_experts)
    return section("experts", "Experts", "", note("No step has experts to balance: the model is dense."));
  std::string inside = wide_figure(draw(violation_chart(runs)));
  size_t maps = 0;
  for (const RunRecord& run : runs) {
    if (recorded(run).empty() || maps++ >= kMostMaps) continue;
    const std::string prefix = runs.size() > 1 ? run.name + ": " : "";
    inside += wide_figure(over_steps(run, prefix)) + wide_figure(over_experts(run, prefix));
  }
  if (maps == 0) inside += note("No record has the load of each layer: the run is of an older version.");
  return section("experts", "Experts",
                 "How evenly the router spreads tokens over the experts of a layer. What the fullest expert has above "
                 "the mean, every rank waits for.",
                 inside);
}

}  // namespace shoal
