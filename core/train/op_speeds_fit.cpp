// core/train/op_speeds_fit.cpp: a line through the timed calls of each op.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "core/train/op_speeds.h"

namespace shoal {

namespace {

constexpr size_t kNumTerms = 3;  // one a call, FLOPs, bytes
using Terms = std::array<double, kNumTerms>;

// Calls of one size.
struct Point {
  Terms x{};
  double seconds = 0;  // of a call
  double calls = 0;
};

// Least squares with only the terms of `chosen` (a bit each), weights calls / seconds; none when it has no solution
// without negative coefficients.
std::optional<Terms> solve(const std::vector<Point>& points, unsigned chosen) {
  std::vector<size_t> terms;
  for (size_t t = 0; t < kNumTerms; ++t) {
    if ((chosen >> t) & 1) terms.push_back(t);
  }
  const size_t n = terms.size();
  std::array<std::array<double, kNumTerms + 1>, kNumTerms> a{};  // normal equations, right side last
  for (const Point& point : points) {
    const double weight = point.calls / point.seconds;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) a[i][j] += weight * point.x[terms[i]] * point.x[terms[j]];
      a[i][n] += weight * point.x[terms[i]] * point.seconds;
    }
  }
  std::array<double, kNumTerms> diagonal{};
  for (size_t i = 0; i < n; ++i) diagonal[i] = a[i][i];
  for (size_t i = 0; i < n; ++i) {
    if (!(a[i][i] > 1e-9 * diagonal[i])) return std::nullopt;  // a term is a multiple of others
    for (size_t row = 0; row < n; ++row) {
      if (row == i) continue;
      const double factor = a[row][i] / a[i][i];
      for (size_t j = i; j <= n; ++j) a[row][j] -= factor * a[i][j];
    }
  }
  Terms found{};
  for (size_t i = 0; i < n; ++i) {
    found[terms[i]] = a[i][n] / a[i][i];
    if (found[terms[i]] < 0) return std::nullopt;
  }
  return found;
}

double value(const Terms& coefficients, const Terms& x) {
  double sum = 0;
  for (size_t t = 0; t < kNumTerms; ++t) sum += coefficients[t] * x[t];
  return sum;
}

double squared_error(const std::vector<Point>& points, const Terms& coefficients) {
  double sum = 0;
  for (const Point& point : points) {
    const double off = value(coefficients, point.x) - point.seconds;
    sum += point.calls / point.seconds * off * off;
  }
  return sum;
}

Terms fit(const std::vector<Point>& points, WorkKind kind) {
  const bool multiplies = kind == WorkKind::kGemm || kind == WorkKind::kAttention;
  const size_t main_term = multiplies && points[0].x[1] > 0 ? 1 : points[0].x[2] > 0 ? 2 : 0;
  // One size: its main term alone. A call without work at all has only its fixed part.
  std::optional<Terms> best;
  if (points.size() == 1) {
    best = solve(points, 1U << main_term);
  } else {
    for (unsigned chosen = 1; chosen < 1U << kNumTerms; ++chosen) {
      const std::optional<Terms> found = solve(points, chosen);
      if (!found) continue;
      if (!best || squared_error(points, *found) < squared_error(points, *best)) best = found;
    }
  }
  if (!best) best = Terms{points[0].seconds, 0, 0};
  double measured = 0, fitted = 0;
  for (const Point& point : points) {
    measured += point.calls * point.seconds;
    fitted += point.calls * value(*best, point.x);
  }
  for (double& coefficient : *best) coefficient *= fitted > 0 ? measured / fitted : 1;
  return *best;
}

}  // namespace

std::vector<OpSpeed> fit_op_speeds(const WorkBySize& timed) {
  std::map<std::pair<std::string_view, DType>, OpSpeed> speeds;
  std::map<std::pair<std::string_view, DType>, std::vector<Point>> points;
  for (const auto& [size, totals] : timed) {
    const std::pair key{size.op, size.precision};
    OpSpeed& speed = speeds[key];
    speed.op = size.op;
    speed.kind = size.kind;
    speed.precision = size.precision;
    speed.calls += totals.calls;
    const auto calls = static_cast<double>(totals.calls);
    speed.flops += calls * size.executed_flops;
    speed.bytes += calls * size.bytes;
    speed.seconds += totals.seconds;
    if (totals.seconds > 0) {
      points[key].push_back({{1, size.executed_flops, size.bytes}, totals.seconds / calls, calls});
    }
  }
  std::vector<OpSpeed> all;
  for (auto& [key, speed] : speeds) {
    if (const auto found = points.find(key); found != points.end()) {
      const Terms terms = fit(found->second, speed.kind);
      speed.s_per_call = terms[0];
      speed.s_per_flop = terms[1];
      speed.s_per_byte = terms[2];
    }
    all.push_back(std::move(speed));
  }
  return all;
}

}  // namespace shoal
