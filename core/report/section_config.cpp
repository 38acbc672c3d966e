// core/report/section_config.cpp: what the runs were made of, and where they differ.
#include <fmt/format.h>

#include <algorithm>

#include "core/config/compare.h"
#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/svg_text.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

// Fields in which any run differs from the first.
std::string differences_of(const std::vector<RunRecord>& runs) {
  if (!std::ranges::all_of(runs, [](const RunRecord& run) { return run.config.has_value(); })) return "";
  Table table{.header = {"field"}, .rows = {}, .text_columns = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    table.header.push_back(runs[i].name);
    table.text_columns.push_back(i + 1);
  }
  for (size_t i = 1; i < runs.size(); ++i) {
    for (const ConfigChange& change : compare_configs(*runs[0].config, *runs[i].config)) {
      if (change.path == "run.dir") continue;
      auto row = std::ranges::find_if(table.rows, [&](const auto& cells) { return cells[0] == change.path; });
      if (row == table.rows.end()) {
        row = table.rows.insert(table.rows.end(), std::vector<std::string>(runs.size() + 1, change.was));
        row->front() = change.path;
      }
      (*row)[i + 1] = change.is;
    }
  }
  return table.rows.empty() ? note("The configs are equal.") : html(table);
}

std::string model_of(const RunRecord& run) {
  if (!run.summary) return "";
  return fmt::format("model {}: {} parameters, {} active per token, {} GFLOP per token", run.summary->model,
                     format_count(run.summary->parameters), format_count(run.summary->active_parameters),
                     short_number(run.summary->flops_per_token * 1e-9));
}

}  // namespace

std::string config_section(const std::vector<RunRecord>& runs) {
  std::string inside = runs.size() > 1 ? differences_of(runs) : "";
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunRecord& run = runs[i];
    if (runs.size() > 1) inside += fmt::format("<h3>{}{}</h3>\n", swatch(i, runs.size()), escaped(run.name));
    if (!model_of(run).empty()) inside += note(model_of(run));
    if (!run.command_line.empty()) inside += note(run.command_line);
    if (!run.config_text.empty()) inside += preformatted("config.textproto", run.config_text);
    if (!run.environment_text.empty()) inside += preformatted("environment.json", run.environment_text);
  }
  return section("config", "Config and environment", "", inside);
}

}  // namespace shoal
