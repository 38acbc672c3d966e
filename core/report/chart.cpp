// core/report/chart.cpp: title, legend, grid, curves, from top to bottom.
#include "core/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>

#include "core/report/chart_scale.h"
#include "core/report/svg_text.h"

namespace shoal {

namespace {

constexpr double kLeft = 52, kRight = 20, kTitle = 26, kLegend = 18, kBottom = 38;  // pixels
constexpr double kCharacter = 6.1;                                                  // the width of most, at 11 pixels
constexpr size_t kMostAreaPoints = 300;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<Series> prepared(std::vector<Series> all) {
  std::vector<double> base;
  for (Series& series : all) {
    if (series.mark != Mark::kArea) {
      series.points = thinned(series.points);
      continue;
    }
    series.points = averaged(series.points, kMostAreaPoints);
    base.resize(series.points.size(), 0);
    for (size_t i = 0; i < base.size(); ++i) {
      const double height = series.points.y[i];
      base[i] += std::isfinite(height) ? height : 0;
      series.points.y[i] = base[i];  // its upper edge
    }
  }
  return all;
}

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart), all_(prepared(chart.series)) {
    draw_title_and_legend();
    if (!has_points()) {
      add("<text class=\"muted\" x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"middle\">no values</text>\n", chart_.width / 2,
          chart_.height / 2);
      return;
    }
    const auto [low_x, high_x] = x_limits();
    const auto [low_y, high_y] = limits_of(values(&Points::y), chart_.y);
    const Scale x(chart_.x, low_x, high_x, kLeft, chart_.width - kRight);
    const Scale y(chart_.y, low_y, high_y, chart_.height - kBottom, top_);
    draw_grid(x, y);
    draw_areas(x, y);
    for (const Mark mark : {Mark::kFaintLine, Mark::kLevel, Mark::kLine, Mark::kDots}) {
      for (const Series& series : all_) {
        if (series.mark == mark) draw_series(series, x, y);
      }
    }
    draw_events(x);
  }

  std::string text() const {
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" aria-label=\"{}\" "
        "viewBox=\"0 0 {:g} {:g}\">\n{}</svg>\n",
        escaped(chart_.title), chart_.width, chart_.height, body_);
  }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(body_), format, std::forward<Args>(args)...);
  }

  bool has_points() const {
    return std::ranges::any_of(all_, [&](const Series& series) {
      if (series.mark == Mark::kLevel) return false;
      return std::ranges::any_of(series.points.y, [](double y) { return std::isfinite(y); });
    });
  }
  std::vector<double> values(std::vector<double> Points::*of) const {
    std::vector<double> all;
    for (const Series& series : all_) {
      if (series.mark == Mark::kLevel && of == &Points::x) continue;
      const std::vector<double>& more = series.points.*of;
      all.insert(all.end(), more.begin(), more.end());
    }
    if (std::ranges::any_of(all_, [](const Series& s) { return s.mark == Mark::kArea; }) && of == &Points::y) {
      all.push_back(0);
    }
    return all;
  }
  // Curves go from edge to edge.
  std::pair<double, double> x_limits() const {
    const std::vector<double> xs = values(&Points::x);
    const auto [low, high] = std::ranges::minmax(xs);
    return high > low ? std::pair{low, high} : std::pair{low - 0.5, high + 0.5};
  }

  void draw_title_and_legend() {
    add("<text class=\"title\" x=\"2\" y=\"15\">{}<tspan class=\"muted\" dx=\"7\">{}</tspan></text>\n",
        escaped(chart_.title), escaped(chart_.y.name));
    top_ = kTitle;
    double x = kLeft;
    bool any = false;
    for (const Series& series : all_) {
      if (series.label.empty() || series.mark == Mark::kLevel || series.mark == Mark::kFaintLine) continue;
      const double width = 30 + kCharacter * static_cast<double>(series.label.size()) + 10;
      if (any && x + width > chart_.width - kRight) {
        x = kLeft;
        top_ += kLegend;
      }
      draw_legend_entry(series, x, top_ + 8);
      x += width;
      any = true;
    }
    top_ += any ? kLegend + 4 : 4;
  }

  void draw_legend_entry(const Series& series, double x, double y) {
    if (series.mark == Mark::kArea) {
      add("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"14\" height=\"9\" rx=\"2\" style=\"fill:{}\"/>", x + 6, y - 5,
          series.colour);
    } else {
      add("<path class=\"line\" style=\"stroke:{}\"{} d=\"M{:.1f} {:.1f}h22\"/>", series.colour, dash_of(series), x, y);
      if (series.mark == Mark::kDots) {
        add("<circle class=\"dot\" style=\"fill:{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.4\"/>", series.colour, x + 11,
            y);
      }
    }
    add("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", x + 28, y + 4, escaped(series.label));
  }

  static std::string dash_of(const Series& series) {
    return series.dash.empty() ? "" : fmt::format(" stroke-dasharray=\"{}\"", series.dash);
  }

  void draw_grid(const Scale& x, const Scale& y) {
    const double bottom = chart_.height - kBottom, right = chart_.width - kRight;
    add("<path class=\"grid\" d=\"");
    const auto rows = y.ticks(static_cast<int>(chart_.height / 48));
    for (const Scale::Tick& tick : rows) add("M{:.0f} {:.1f}H{:.0f}", kLeft, y.pixel(tick.value), right);
    add("\"/>\n<g class=\"muted\">\n");
    for (const Scale::Tick& tick : rows) {
      if (tick.text.empty()) continue;
      add("<text x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 7, y.pixel(tick.value) + 4,
          tick.text);
    }
    const auto columns = x.ticks(static_cast<int>(chart_.width / 95));
    for (const Scale::Tick& tick : columns) {
      if (tick.text.empty()) continue;
      add("<text x=\"{:.1f}\" y=\"{:.0f}\" text-anchor=\"middle\">{}</text>\n", x.pixel(tick.value), bottom + 17,
          tick.text);
    }
    add("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"end\">{}</text>\n</g>\n", right, bottom + 32,
        escaped(chart_.x.name));
    add("<path class=\"axis\" d=\"M{:.0f} {:.0f}H{:.0f}", kLeft, bottom, right);
    for (const Scale::Tick& tick : columns) add("M{:.1f} {:.0f}v4", x.pixel(tick.value), bottom);
    add("\"/>\n");
  }

  // The points as a path; a gap breaks it, and a point between two gaps is a short stroke.
  std::string path_of(const Points& points, const Scale& x, const Scale& y) const {
    std::string path;
    bool is_open = false;
    for (size_t i = 0; i < points.size(); ++i) {
      if (!y.shows(points.y[i]) || !x.shows(points.x[i])) {
        is_open = false;
        continue;
      }
      fmt::format_to(std::back_inserter(path), "{}{:.1f} {:.1f}", is_open ? "L" : "M", x.pixel(points.x[i]),
                     y.pixel(points.y[i]));
      const bool is_alone = !is_open && (i + 1 == points.size() || !y.shows(points.y[i + 1]));
      if (is_alone) path += "h.1";
      is_open = true;
    }
    return path;
  }

  void draw_series(const Series& series, const Scale& x, const Scale& y) {
    if (series.mark == Mark::kLevel) return draw_level(series, y);
    const char* kind = series.mark == Mark::kLine ? "line" : series.mark == Mark::kDots ? "thin" : "faint";
    // Between a start and an end alone nobody has measured.
    if (series.mark != Mark::kDots || series.points.size() > 2) {
      add("<path class=\"{}\" style=\"stroke:{}\"{} d=\"{}\"/>\n", kind, series.colour, dash_of(series),
          path_of(series.points, x, y));
    }
    if (series.mark != Mark::kDots) return;
    for (size_t i = 0; i < series.points.size(); ++i) {
      const double at = series.points.x[i], value = series.points.y[i];
      if (!y.shows(value) || !x.shows(at)) continue;
      add("<circle class=\"dot\" style=\"fill:{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.4\"><title>{} at {} {}</title>"
          "</circle>\n",
          series.colour, x.pixel(at), y.pixel(value), fmt::format("{:.5g}", value / chart_.y.divide_by),
          short_number(at / chart_.x.divide_by), escaped(chart_.x.name));
    }
  }

  void draw_level(const Series& series, const Scale& y) {
    if (series.points.y.empty() || !y.shows(series.points.y[0])) return;
    const double at = y.pixel(series.points.y[0]), right = chart_.width - kRight;
    add("<path class=\"level\" style=\"stroke:{}\" d=\"M{:.0f} {:.1f}H{:.0f}\"/>", series.colour, kLeft, at, right);
    add("<text class=\"muted\" x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", right - 2, at - 5,
        escaped(series.label));
  }

  // From each area's upper edge down to that of the one before.
  void draw_areas(const Scale& x, const Scale& y) {
    const Points* below = nullptr;
    for (const Series& series : all_) {
      if (series.mark != Mark::kArea || series.points.size() == 0) continue;
      std::string path = path_of(series.points, x, y);
      for (size_t i = series.points.size(); i-- > 0;) {
        const double floor = below == nullptr ? 0 : below->y[i];
        fmt::format_to(std::back_inserter(path), "L{:.1f} {:.1f}", x.pixel(series.points.x[i]), y.pixel(floor));
      }
      add("<path class=\"area\" style=\"fill:{}\" d=\"{}z\"/>\n", series.colour, path);
      below = &series.points;
    }
  }

  void draw_events(const Scale& x) {
    const double bottom = chart_.height - kBottom;
    for (const Event& event : chart_.events) {
      const double at = x.pixel(event.x);
      if (!(at >= kLeft - 1 && at <= chart_.width - kRight + 1)) continue;
      add("<path class=\"event\" d=\"M{:.1f} {:.0f}l-4 7h8z\"><title>{}</title></path>\n", at, bottom - 7,
          escaped(event.what));
    }
  }

  const Chart& chart_;
  std::vector<Series> all_;
  double top_ = 0;
  std::string body_;
};

double largest(const std::vector<Series>& all) {
  double most = 0;
  for (const Series& series : all) {
    for (const double y : series.points.y) {
      if (std::isfinite(y)) most = std::max(most, std::abs(y));
    }
  }
  return most;
}

}  // namespace

std::string draw(const Chart& chart) { return Drawing(chart).text(); }

Axis bytes_axis(const std::vector<Series>& series) {
  constexpr std::array<const char*, 5> kUnits{"bytes", "KiB", "MiB", "GiB", "TiB"};
  double divide_by = 1;
  size_t unit = 0;
  for (const double most = largest(series); most >= 1024 * divide_by && unit + 1 < kUnits.size(); ++unit) {
    divide_by *= 1024;
  }
  return {.name = kUnits[unit], .divide_by = divide_by, .from_zero = true};
}

Axis time_axis(const std::vector<Series>& series) {
  const bool many = largest(series) >= 10'000;
  return {.name = many ? "s" : "ms", .divide_by = many ? 1000.0 : 1.0, .from_zero = true};
}

}  // namespace shoal
