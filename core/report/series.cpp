// core/report/series.cpp: one pass each.
#include "core/report/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shoal {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Of the stretch [begin, end): lowest, highest and a gap.
void add_extremes(const Points& points, size_t begin, size_t end, Points& to) {
  size_t low = end, high = end, gap = end;
  for (size_t i = begin; i < end; ++i) {
    if (!std::isfinite(points.y[i])) {
      gap = i;
      continue;
    }
    if (low == end || points.y[i] < points.y[low]) low = i;
    if (high == end || points.y[i] > points.y[high]) high = i;
  }
  std::vector<size_t> kept{low, high, gap};
  std::ranges::sort(kept);
  kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
  for (const size_t i : kept) {
    if (i < end) to.add(points.x[i], points.y[i]);
  }
}

}  // namespace

Points thinned(const Points& points, size_t most) {
  if (points.size() <= std::max<size_t>(most, 5)) return points;
  const size_t inner = points.size() - 2, stretches = std::max<size_t>(1, (most - 2) / 3);
  Points few;
  few.add(points.x.front(), points.y.front());
  for (size_t i = 0; i < stretches; ++i) {
    add_extremes(points, 1 + inner * i / stretches, 1 + inner * (i + 1) / stretches, few);
  }
  few.add(points.x.back(), points.y.back());
  return few;
}

Points smoothed(const Points& points, double past) {
  Points result;
  double sum = 0, weight = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    if (!std::isfinite(points.y[i])) {
      result.add(points.x[i], kNan);
      continue;
    }
    sum = past * sum + (1 - past) * points.y[i];
    weight = past * weight + (1 - past);
    result.add(points.x[i], sum / weight);
  }
  return result;
}

Points averaged(const Points& points, size_t most) {
  const size_t bins = std::min(points.size(), std::max<size_t>(most, 1));
  Points result;
  for (size_t bin = 0; bin < bins; ++bin) {
    const size_t begin = points.size() * bin / bins, end = points.size() * (bin + 1) / bins;
    double x = 0, y = 0;
    size_t finite = 0;
    for (size_t i = begin; i < end; ++i) {
      x += points.x[i];
      if (!std::isfinite(points.y[i])) continue;
      y += points.y[i];
      ++finite;
    }
    result.add(x / static_cast<double>(end - begin), finite > 0 ? y / static_cast<double>(finite) : kNan);
  }
  return result;
}

}  // namespace shoal
