// core/report/chart_scale.cpp: linear and logarithmic.
#include "core/report/chart_scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/report/svg_text.h"

namespace shoal {

namespace {

constexpr double kRoom = 0.05;      // above and below the curves, of their height
constexpr double kLargest = 1e300;  // that is shown: differences of more would overflow

// As many digits as tell it from the ticks beside it.
std::string tick_text(double value, double step) {
  const double size = std::abs(value);
  if (size >= 1000 || step >= size / 100) return short_number(value);
  return fmt::format("{:.{}f}", value, std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9))));
}

}  // namespace

Scale::Scale(const Axis& axis, double low, double high, double from, double to)
    : axis_(axis), low_(place(low)), high_(place(high)), from_(from), to_(to) {
  if (!(high_ > low_)) high_ = low_ + 1;
}

double Scale::place(double value) const { return axis_.logarithmic ? std::log10(value) : value; }

bool Scale::shows(double value) const { return std::abs(value) <= kLargest && (!axis_.logarithmic || value > 0); }

double Scale::pixel(double value) const { return from_ + (place(value) - low_) / (high_ - low_) * (to_ - from_); }

std::vector<Scale::Tick> Scale::even_ticks(double low, double high, int count) const {
  std::vector<Tick> ticks;
  const double step = tick_step(high - low, count);
  const auto first = std::ceil(low / step - 1e-9);
  for (int i = 0; (first + i) * step <= high + 1e-9 * step && i < 50; ++i) {
    const double value = (first + i) * step;
    ticks.push_back({.value = value * axis_.divide_by, .text = tick_text(value, step)});
  }
  return ticks;
}

std::vector<Scale::Tick> Scale::ticks(int count) const {
  if (!axis_.logarithmic) return even_ticks(low_ / axis_.divide_by, high_ / axis_.divide_by, count);
  std::vector<Tick> ticks;
  const double unit = std::log10(axis_.divide_by);
  const int first = static_cast<int>(std::floor(low_ - unit)), last = static_cast<int>(std::ceil(high_ - unit));
  const int every = std::max(1, (last - first) / count);
  const bool is_narrow = high_ - low_ < 2.5;
  for (int power = first; power <= last; ++power) {
    for (const int digit : {1, 2, 5}) {
      if (digit > 1 && every > 1) continue;
      const double value = digit * std::pow(10, power);
      const double at = std::log10(value) + unit;
      if (at < low_ - 1e-9 || at > high_ + 1e-9) continue;
      const bool has_text = digit == 1 ? (power - first) % every == 0 : is_narrow;
      ticks.push_back({.value = value * axis_.divide_by, .text = has_text ? short_number(value) : ""});
    }
  }
  // Less than from 1 to 2, or from 2 to 5.
  if (std::ranges::count_if(ticks, [](const Tick& tick) { return !tick.text.empty(); }) < 2) {
    return even_ticks(std::pow(10, low_ - unit), std::pow(10, high_ - unit), count);
  }
  return ticks;
}

std::pair<double, double> limits_of(const std::vector<double>& values, const Axis& axis) {
  double low = INFINITY, high = -INFINITY;
  for (const double value : values) {
    if (!(std::abs(value) <= kLargest) || (axis.logarithmic && value <= 0)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) return axis.logarithmic ? std::pair{1.0, 10.0} : std::pair{0.0, 1.0};
  if (axis.logarithmic) {
    const double room = std::pow(high / low, kRoom) * 1.02;
    return {low / room, high * room};
  }
  if (axis.from_zero) return {std::min(0.0, low), high > 0 ? high * (1 + kRoom) : 1};
  double room = (high - low) * kRoom;
  if (room == 0) room = std::max(std::abs(high) * 0.1, 1e-9);
  return {low - room, high + room};
}

}  // namespace shoal
