// core/report/section_memory.cpp: memory predicted and measured; what FP8 loses.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/svg_text.h"
#include "core/report/views.h"

namespace shoal {

namespace {

Table memory_table(const std::vector<RunRecord>& runs) {
  Table table{.header = {"of the fullest rank, at its peak"}, .rows = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].summary) continue;
    const std::string name = runs.size() > 1 ? runs[i].name + ": " : "";
    table.header.push_back(name + "predicted");
    table.header.push_back(name + "measured");
  }
  for (int kind = 0; kind <= kNumMemoryKinds; ++kind) {
    const bool is_peak = kind == kNumMemoryKinds;
    std::vector<std::string>& row = table.rows.emplace_back();
    row.push_back(is_peak ? "all" : std::string(name_of(static_cast<MemoryKind>(kind))));
    for (const RunRecord& run : runs) {
      if (!run.summary) continue;
      const auto bytes = [&](const MemorySplit& split) {
        return bytes_text(static_cast<double>(is_peak ? split.peak_bytes : split.bytes[static_cast<size_t>(kind)]));
      };
      row.push_back(bytes(run.summary->predicted));
      row.push_back(run.summary->measured ? bytes(*run.summary->measured) : "–");
    }
  }
  return table;
}

using Fp8Key = std::pair<LayerPart, bool>;  // with gradients?

const QuantizeMetrics* find_fp8(const StepMetrics& step, const Fp8Key& key) {
  for (const QuantizeMetrics& one : step.fp8) {
    if (one.part == key.first && one.gradients == key.second) return &one;
  }
  return nullptr;
}

std::set<Fp8Key> fp8_keys(const RunRecord& run) {
  std::set<Fp8Key> keys;
  for (const StepMetrics& step : run.metrics.steps) {
    for (const QuantizeMetrics& one : step.fp8) keys.insert({one.part, one.gradients});
  }
  return keys;
}

std::string fp8_name(const Fp8Key& key) {
  const QuantizeMetrics one{.part = key.first, .gradients = key.second};
  return fmt::format("{}, {}", name_of(key.first), one.kind());
}

Points fp8_points(const RunRecord& run, const Fp8Key& key, double QuantizeMetrics::*member) {
  return by_step(run, [&](const StepMetrics& step) {
    const QuantizeMetrics* one = find_fp8(step, key);
    return one == nullptr ? NAN : one->*member;
  });
}

std::string fp8_chart(const RunRecord& run, const std::string& title, double QuantizeMetrics::*member, Axis y) {
  std::vector<Series> lines;
  for (const Fp8Key& key : fp8_keys(run)) {
    lines.push_back({.label = fp8_name(key),
                     .points = fp8_points(run, key, member),
                     .colour = run_colour(static_cast<size_t>(key.first)),
                     .dash = key.second ? "5 3" : ""});
  }
  return draw_over_steps(title, std::move(y), std::move(lines));
}

void add_fp8_rows(const RunRecord& run, const std::string& prefix, Table& table) {
  for (const Fp8Key& key : fp8_keys(run)) {
    double saturated = 0, flushed = 0, low = INFINITY, high = 0;
    int64_t not_finite = 0;
    for (const StepMetrics& step : run.metrics.steps) {
      const QuantizeMetrics* one = find_fp8(step, key);
      if (one == nullptr) continue;
      saturated = std::max(saturated, one->saturated);
      flushed = std::max(flushed, one->flushed);
      not_finite += one->not_finite_tiles;
      if (one->min_scale > 0) low = std::min(low, one->min_scale);
      high = std::max(high, one->max_scale);
    }
    table.rows.push_back({prefix + fp8_name(key), percent(saturated), percent(flushed), fmt::format("{}", not_finite),
                          std::isfinite(low) ? fmt::format("{:.3g} to {:.3g}", low, high) : "–"});
  }
}

}  // namespace

std::string memory_section(const std::vector<RunRecord>& runs) {
  std::vector<Series> lines = lines_over_steps(runs, [](const StepMetrics& m) {
    return m.peak_memory_bytes > 0 ? static_cast<double>(m.peak_memory_bytes) : NAN;
  });
  if (runs.size() == 1) lines[0].label = "measured so far";
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].summary || runs[i].summary->predicted.peak_bytes == 0) continue;
    Points at;
    at.add(0, static_cast<double>(runs[i].summary->predicted.peak_bytes));
    lines.push_back({.label = runs.size() == 1 ? "predicted" : runs[i].name + ", predicted",
                     .points = at,
                     .colour = runs.size() == 1 ? "var(--muted)" : run_colour(i),
                     .mark = Mark::kLevel});
  }
  Axis y = bytes_axis(lines);
  y.name += " of the fullest rank, tensors alone";
  const std::string chart = draw_over_steps("Peak memory", std::move(y), std::move(lines));
  const bool has_split = std::ranges::any_of(runs, [](const RunRecord& run) { return run.summary.has_value(); });
  return section("memory", "Memory",
                 "Predicted: by a step on paper before anything is allocated, with routing balanced. Measured: at the "
                 "end of the run, or of its last start.",
                 figures({chart}) +
                     (has_split ? html(memory_table(runs)) : note("No summary.json: the run is of an older version.")));
}

std::string fp8_section(const std::vector<RunRecord>& runs) {
  std::vector<std::string> charts;
  Table table{.header = {"over all steps", "most saturated", "most flushed to zero", "tiles not finite", "scales"},
              .rows = {}};
  for (const RunRecord& run : runs) {
    if (fp8_keys(run).empty()) continue;
    const std::string prefix = runs.size() > 1 ? run.name + ": " : "";
    charts.push_back(fp8_chart(run, prefix + "Flushed to zero", &QuantizeMetrics::flushed,
                               {.name = "% of values", .divide_by = 0.01, .from_zero = true}));
    charts.push_back(fp8_chart(run, prefix + "Largest scale", &QuantizeMetrics::max_scale,
                               {.name = "of any tile", .logarithmic = true}));
    add_fp8_rows(run, prefix, table);
  }
  if (table.rows.empty()) return section("fp8", "FP8", "", note("Nothing was in FP8."));
  return section("fp8", "FP8",
                 "Of the 1 × 128 tiles that forward and the gradients of inputs read. Saturated: encoded as the "
                 "largest number that FP8 has. Flushed: not zero before, zero after.",
                 figures(charts) + html(table));
}

}  // namespace shoal
