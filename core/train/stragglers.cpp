// core/train/stragglers.cpp: a window of steps, and each one's median.
#include "core/train/stragglers.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/train/rank_timing.h"

namespace shoal {

namespace {

constexpr size_t kWindow = 10;
constexpr size_t kSlowSteps = 8;      // of the window
constexpr double kSlow = 1.15;        // times the median rank, to count as slow in a step
constexpr double kSlowOnMean = 1.25;  // and in the window,
constexpr double kSlowByS = 0.005;    // and by so much: below, the machine's own hiccups decide,
constexpr double kSlowShare = 0.05;   // and by this share of the step: below, nobody gains by it
constexpr int64_t kStepsBetween = 200;

}  // namespace

std::string StragglerWatch::add(int64_t step, const std::vector<double>& own_s, double step_s) {
  if (own_s.size() < 2) return {};
  window_.push_back(own_s);
  steps_s_.push_back(step_s);
  if (window_.size() > kWindow) {
    window_.pop_front();
    steps_s_.pop_front();
  }
  if (window_.size() < kWindow) return {};
  std::vector<double> means(own_s.size(), 0);
  std::vector<size_t> slow_steps(own_s.size(), 0);
  for (const std::vector<double>& step_s : window_) {
    // The lower one of two: with two ranks the other is the measure.
    std::vector<double> sorted = step_s;
    std::ranges::sort(sorted);
    const double median_s = sorted[(sorted.size() - 1) / 2];
    for (size_t rank = 0; rank < means.size(); ++rank) {
      means[rank] += step_s[rank] / kWindow;
      slow_steps[rank] += step_s[rank] > kSlow * median_s ? 1 : 0;
    }
  }
  std::vector<double> sorted = means;
  std::ranges::sort(sorted);
  const double median_s = sorted[(sorted.size() - 1) / 2];
  const double mean_step_s = std::accumulate(steps_s_.begin(), steps_s_.end(), 0.0) / kWindow;
  const double slow_s = std::max(kSlowOnMean * median_s, median_s + std::max(kSlowByS, kSlowShare * mean_step_s));
  std::string text;
  for (size_t rank = 0; rank < means.size(); ++rank) {
    if (slow_steps[rank] < kSlowSteps || means[rank] < slow_s) continue;
    const auto [named, is_first] = named_at_.try_emplace(static_cast<int>(rank), step);
    if (!is_first && step < named->second + kStepsBetween) continue;
    named->second = step;
    text += fmt::format(
        "{}rank {} is slow: {:.0f} ms of its own a step, {:.2f} times the median rank's, in the last {} steps",
        text.empty() ? "" : "; ", rank, means[rank] * 1e3, means[rank] / median_s, kWindow);
  }
  return text;
}

}  // namespace shoal
