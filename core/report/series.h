// core/report/series.h: points of a curve, fewer of them, smoother ones.
#pragma once

#include <cstddef>
#include <vector>

namespace shoal {

// y over x, in the order of x. A y that is not finite is a gap.
struct Points {
  std::vector<double> x, y;

  size_t size() const { return x.size(); }
  void add(double at, double value) {
    x.push_back(at);
    y.push_back(value);
  }
};

constexpr size_t kMostPoints = 1000;  // of a curve: more than a screen has columns for

// At most `most` points: of each stretch of the curve its lowest and its highest, in their order, so that no spike is
// lost; its first and its last point; a gap where there is one.
Points thinned(const Points& points, size_t most = kMostPoints);

// The exponential mean, `past` (0 to 1) the weight of what was before, without a bias towards 0 at its begin. Gaps
// stay.
Points smoothed(const Points& points, double past);

// Means of equally many neighbours, at most `most` of them, each at the middle of its neighbours. For curves that are
// stacked: means still add up.
Points averaged(const Points& points, size_t most);

}  // namespace shoal
