// core/report/heat_map.cpp: a path for each class, neighbours of one class as one rectangle.
#include "core/report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "core/report/svg_text.h"

namespace shoal {

namespace {

constexpr double kLeft = 52, kRight = 14, kTop = 26, kAxis = 38, kLegend = 20;  // pixels
constexpr size_t kMostRows = 96, kMostColumns = 256;

using Rows = std::vector<std::vector<double>>;

// What group i of `groups` begins with, of `count` things.
size_t begin_of(size_t i, size_t groups, size_t count) { return count * i / groups; }

// The largest of each block of neighbours.
Rows pooled(const Rows& rows, size_t num_rows, size_t num_columns) {
  const size_t columns = rows.front().size();
  Rows result(num_rows, std::vector<double>(num_columns, std::numeric_limits<double>::quiet_NaN()));
  for (size_t r = 0; r < num_rows; ++r) {
    for (size_t i = begin_of(r, num_rows, rows.size()); i < begin_of(r + 1, num_rows, rows.size()); ++i) {
      for (size_t c = 0; c < num_columns; ++c) {
        double& most = result[r][c];
        for (size_t k = begin_of(c, num_columns, columns); k < begin_of(c + 1, num_columns, columns); ++k) {
          if (k < rows[i].size() && !(most >= rows[i][k])) most = rows[i][k];
        }
      }
    }
  }
  return result;
}

int class_of(double value, const HeatScale& scale) {
  if (!std::isfinite(value)) return -1;
  return static_cast<int>(std::ranges::upper_bound(scale.bounds, value) - scale.bounds.begin());
}

}  // namespace

std::string draw(const HeatMap& map) {
  if (map.rows.empty() || map.rows.front().empty()) return "";
  const size_t columns = map.rows.front().size();
  const Rows cells = pooled(map.rows, std::min(map.rows.size(), kMostRows), std::min(columns, kMostColumns));
  const size_t num_rows = cells.size(), num_columns = cells.front().size();
  const double cell_height = std::clamp(260.0 / static_cast<double>(num_rows), 5.0, 24.0);
  const double width = map.width - kLeft - kRight, cell_width = width / static_cast<double>(num_columns);
  const double bottom = kTop + cell_height * static_cast<double>(num_rows), height = bottom + kAxis + kLegend;
  std::string body =
      fmt::format("<text class=\"title\" x=\"2\" y=\"15\">{}<tspan class=\"muted\" dx=\"7\">{}</tspan></text>\n",
                  escaped(map.title), escaped(map.subtitle));
  std::vector<std::string> paths(map.scale.colours.size());
  for (size_t r = 0; r < num_rows; ++r) {
    for (size_t begin = 0; begin < num_columns;) {
      const int kind = class_of(cells[r][begin], map.scale);
      size_t end = begin + 1;
      while (end < num_columns && class_of(cells[r][end], map.scale) == kind) ++end;
      if (kind >= 0) {
        fmt::format_to(std::back_inserter(paths[static_cast<size_t>(kind)]), "M{:.1f} {:.1f}h{:.1f}v{:.1f}h{:.1f}z",
                       kLeft + static_cast<double>(begin) * cell_width, kTop + static_cast<double>(r) * cell_height,
                       static_cast<double>(end - begin) * cell_width, cell_height - (cell_height > 8 ? 1 : 0),
                       -static_cast<double>(end - begin) * cell_width);
      }
      begin = end;
    }
  }
  for (size_t kind = 0; kind < paths.size(); ++kind) {
    if (!paths[kind].empty())
      body += fmt::format("<path style=\"fill:{}\" d=\"{}\"/>\n", map.scale.colours[kind], paths[kind]);
  }

  body += "<g class=\"muted\">\n";
  const size_t every_row = std::max<size_t>(1, static_cast<size_t>(std::ceil(14 / cell_height)));
  for (size_t r = 0; r < num_rows; r += every_row) {
    const size_t row = begin_of(r, num_rows, map.rows.size());
    if (row >= map.row_names.size()) break;
    body += fmt::format("<text x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 7,
                        kTop + (static_cast<double>(r) + 0.5) * cell_height + 3.5, escaped(map.row_names[row]));
  }
  const size_t every_column = std::max<size_t>(1, (num_columns + 11) / 12);
  for (size_t c = 0; c < num_columns; c += every_column) {
    const size_t column = begin_of(c, num_columns, columns);
    if (column >= map.column_names.size()) break;
    body += fmt::format("<text x=\"{:.1f}\" y=\"{:.0f}\" text-anchor=\"middle\">{}</text>\n",
                        kLeft + (static_cast<double>(c) + 0.5) * cell_width, bottom + 16,
                        escaped(map.column_names[column]));
  }
  body += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"end\">{}</text>\n", map.width - kRight,
                      bottom + 31, escaped(map.x_name));
  double x = kLeft;
  for (size_t kind = 0; kind < map.scale.colours.size(); ++kind) {
    body += fmt::format(
        "<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"14\" height=\"11\" rx=\"2\" style=\"fill:{}\"/>"
        "<text x=\"{:.0f}\" y=\"{:.0f}\">{}</text>\n",
        x, bottom + kAxis + 3, map.scale.colours[kind], x + 19, bottom + kAxis + 12, escaped(map.scale.names[kind]));
    x += 34 + 6.2 * static_cast<double>(map.scale.names[kind].size());
  }
  body += fmt::format("<text x=\"2\" y=\"{:.0f}\">{}</text>\n</g>\n", bottom + 16, escaped(map.y_name));
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" aria-label=\"{}\" "
      "viewBox=\"0 0 {:g} {:.0f}\">\n{}</svg>\n",
      escaped(map.title), map.width, height, body);
}

}  // namespace shoal
