// core/report/chart.h: curves over one axis, as an SVG element that is complete in itself.
//
// Colours are CSS variables (style.h), so that the same picture is right on light and on dark ground.
#pragma once

#include <string>
#include <vector>

#include "core/report/series.h"

namespace shoal {

enum class Mark {
  kLine,
  kFaintLine,  // behind the others: what a smooth curve was made of; not in the legend
  kDots,       // joined by a thin line; not in the legend where a line of that name is
  kLevel,      // a thin dashed line across, at the first y, its label at its right end
  kArea,       // stacked on the areas before it, which share its x
};

struct Series {
  std::string label;      // for the legend; empty: not there
  Points points;          // thinned by the chart
  std::string colour;     // CSS
  std::string dash = {};  // stroke-dasharray; empty: solid
  Mark mark = Mark::kLine;
};

struct Event {
  double x = 0;
  std::string what;  // shown by a pointer that rests on it
};

struct Axis {
  std::string name;      // "tokens", "nats a token"
  double divide_by = 1;  // shown is value / divide_by
  bool logarithmic = false;
  bool from_zero = false;
};

struct Chart {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
  std::vector<Event> events = {};  // small triangles on the x axis
  double width = 560, height = 250;
};

// An <svg> element; without one finite point it says so, in the place of curves.
std::string draw(const Chart& chart);

// The axis of these bytes, in the unit that suits the largest: "GiB".
Axis bytes_axis(const std::vector<Series>& series);
// Of milliseconds: "ms", or "s" where they are many.
Axis time_axis(const std::vector<Series>& series);

}  // namespace shoal
