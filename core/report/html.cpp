// core/report/html.cpp: HTML that is XML too, so that a test can parse it.
#include "core/report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "core/report/svg_text.h"

namespace shoal {

std::string html(const Table& table) {
  const auto kind = [&](size_t column) {
    return column > 0 && std::ranges::count(table.text_columns, column) == 0 ? " class=\"number\"" : "";
  };
  std::string text = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (size_t i = 0; i < table.header.size(); ++i) {
    text += fmt::format("<th{}>{}</th>", kind(i), escaped(table.header[i]));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (size_t r = 0; r < table.rows.size(); ++r) {
    text += "<tr>";
    for (size_t i = 0; i < table.rows[r].size(); ++i) {
      const bool is_run = table.rows_are_runs && i == 0;
      text += fmt::format("<td{}>{}{}</td>", is_run ? " class=\"run\"" : kind(i),
                          is_run ? swatch(r, table.rows.size()) : "", escaped(table.rows[r][i]));
    }
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

std::string facts(const std::vector<Fact>& all) {
  std::string text = "<dl class=\"facts\">\n";
  for (const Fact& fact : all) {
    text += fmt::format("<div><dt>{}</dt><dd>{}</dd><dd class=\"remark\">{}</dd></div>\n", escaped(fact.name),
                        escaped(fact.value), escaped(fact.remark));
  }
  return text + "</dl>\n";
}

std::string section(const std::string& id, const std::string& title, const std::string& lead,
                    const std::string& inside) {
  return fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}{}</section>\n", escaped(id), escaped(title),
                     lead.empty() ? "" : fmt::format("<p class=\"lead\">{}</p>\n", escaped(lead)), inside);
}

std::string figures(const std::vector<std::string>& charts) {
  std::string text = "<div class=\"figures\">\n";
  for (const std::string& chart : charts) text += "<figure>\n" + chart + "</figure>\n";
  return text + "</div>\n";
}

std::string wide_figure(const std::string& chart) { return "<figure class=\"wide\">\n" + chart + "</figure>\n"; }

std::string note(const std::string& sentence) { return fmt::format("<p class=\"note\">{}</p>\n", escaped(sentence)); }

std::string preformatted(const std::string& title, const std::string& text) {
  return fmt::format("<details><summary>{}</summary><pre>{}</pre></details>\n", escaped(title), escaped(text));
}

std::string swatch(size_t run, size_t num_runs) {
  const std::string dash = num_runs > 1 ? run_dash(run) : "";
  return fmt::format(
      "<svg class=\"swatch\" viewBox=\"0 0 26 10\"><path class=\"line\" style=\"stroke:{}\"{} d=\"M1 "
      "5h24\"/></svg>",
      run_colour(run), dash.empty() ? "" : fmt::format(" stroke-dasharray=\"{}\"", dash));
}

std::string utc_text(int64_t unix_s) {
  if (unix_s <= 0) return "–";
  const auto time = static_cast<std::time_t>(unix_s);
  std::tm utc{};
  if (::gmtime_r(&time, &utc) == nullptr) return "–";
  std::array<char, 64> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &utc);
  return text.data();
}

}  // namespace shoal
