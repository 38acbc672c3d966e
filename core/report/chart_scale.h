// core/report/chart_scale.h: from values to pixels, and which values get a tick.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/report/chart.h"

namespace shoal {

class Scale {
 public:
  // Values from `low` to `high` (in the axis's own unit, not divided yet), drawn from pixel `from` to pixel `to`.
  Scale(const Axis& axis, double low, double high, double from, double to);

  bool shows(double value) const;
  // Finite for every value that it shows; outside the limits it goes on.
  double pixel(double value) const;

  struct Tick {
    double value = 0;
    std::string text;  // empty: a small one
  };
  std::vector<Tick> ticks(int count) const;

 private:
  double place(double value) const;
  // From `low` to `high`, which are divided already.
  std::vector<Tick> even_ticks(double low, double high, int count) const;

  Axis axis_;
  double low_, high_;  // as place() sees them
  double from_, to_;
};

// Lowest and highest of what `shows`, as the axis wants them: with some room, from 0, or in whole powers.
std::pair<double, double> limits_of(const std::vector<double>& values, const Axis& axis);

}  // namespace shoal
