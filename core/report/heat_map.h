// core/report/heat_map.h: a table of numbers as coloured cells, in an SVG element that is complete in itself.
#pragma once

#include <string>
#include <vector>

namespace shoal {

// Classes of values: class i is what is below bounds[i] and not below bounds[i - 1]; the last one is all the rest.
struct HeatScale {
  std::vector<double> bounds;
  std::vector<std::string> colours;  // CSS; one more than bounds
  std::vector<std::string> names;    // for the legend, likewise
};

struct HeatMap {
  std::string title, subtitle;
  std::string x_name, y_name;
  std::vector<std::string> row_names;     // from top to bottom
  std::vector<std::string> column_names;  // some of them are written below
  std::vector<std::vector<double>> rows;  // [row][column]; NaN: no cell
  HeatScale scale;
  double width = 1140;
};

// Where rows or columns are more than there is room for, neighbours share a cell and it has their largest value.
std::string draw(const HeatMap& map);

}  // namespace shoal
