// core/report/timeline_svg.cpp: tracks as paths, one for each colour.
//
// A track is cut into columns of half a pixel; a column has the colour that fills most of it. So a million slices and a
// hundred cost the same, and slices thinner than a pixel merge.
#include "core/report/timeline_svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <map>

#include "core/base/check.h"
#include "core/report/svg_text.h"

namespace shoal {

namespace {

constexpr double kLeft = 130, kWidth = 900, kRight = 20;  // pixels: labels, plot, margin
constexpr double kComputeHeight = 20, kWireHeight = 9, kRowGap = 3, kRankGap = 10, kTitleHeight = 26, kAxisHeight = 34;

struct Panel {
  const Timeline* timeline = nullptr;
  std::string title;
  std::vector<const TimelineRank*> ranks;
  std::vector<StepTimes> times;
  double begin_ms = 0, end_ms = 0;
};

// Where a step's time went, in a line: of the mean rank.
std::string summary(const std::vector<StepTimes>& times) {
  const StepTimes mean = mean_of(times);
  const auto share = [&](double ms) { return mean.step_ms > 0 ? 100 * ms / mean.step_ms : 0; };
  return fmt::format("step {}: {:.4g} ms, computing {:.0f} %, waiting for the wire {:.0f} %", mean.step, mean.step_ms,
                     share(mean.compute_ms), share(mean.exposed_total_ms()));
}

Panel panel_of(const Timeline& timeline, const std::string& title, const TimelinePicture& picture) {
  Panel panel{.timeline = &timeline, .title = title, .ranks = {}, .times = {}};
  int64_t step = picture.step;
  for (const StepTimes& times : step_times(timeline)) {
    const bool is_wanted = picture.ranks.empty() || std::ranges::count(picture.ranks, times.rank) > 0;
    if (!is_wanted) continue;
    if (step == 0) step = times.step;
    if (times.step == step) panel.times.push_back(times);
  }
  if (panel.times.empty()) fail("{} has no such step and rank to draw", timeline.file);
  panel.begin_ms = std::numeric_limits<double>::infinity();
  for (const TimelineRank& rank : timeline.ranks) {
    if (std::ranges::none_of(panel.times, [&](const StepTimes& times) { return times.rank == rank.rank; })) continue;
    panel.ranks.push_back(&rank);
    for (const TimelineSlice& slice : rank.of(TraceTrack::kStep)) {
      if (slice.step != step) continue;
      panel.begin_ms = std::min(panel.begin_ms, slice.begin_ms);
      panel.end_ms = std::max(panel.end_ms, slice.end_ms);
    }
  }
  panel.title += " · " + summary(panel.times);
  return panel;
}

class Drawing {
 public:
  Drawing(const std::vector<Panel>& panels, double column) : column_(column) {
    span_ms_ = 1e-6;
    for (const Panel& panel : panels) span_ms_ = std::max(span_ms_, panel.end_ms - panel.begin_ms);
    for (const Panel& panel : panels) draw(panel);
    axis();
    legend();
  }

  std::string document() const {
    const double width = kLeft + kWidth + kRight;
    std::string text = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1:.0f}\" viewBox=\"0 0 {0} {1:.0f}\" "
        "font-family=\"sans-serif\" font-size=\"11\">\n<defs>\n",
        width, y_);
    for (const auto& [kind, unused] : waits_) {
      text += fmt::format(
          "<pattern id=\"wait{0}\" width=\"5\" height=\"5\" patternTransform=\"rotate(45)\" "
          "patternUnits=\"userSpaceOnUse\"><rect width=\"5\" height=\"5\" fill=\"{1}\" fill-opacity=\".15\"/>"
          "<rect width=\"2\" height=\"5\" fill=\"{1}\"/></pattern>\n",
          kind, kWireColours[static_cast<size_t>(kind)]);
    }
    text += fmt::format("</defs>\n<rect width=\"{}\" height=\"{:.0f}\" fill=\"#fff\"/>\n", width, y_);
    return text + body_ + "</svg>\n";
  }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(body_), format, std::forward<Args>(args)...);
  }
  double x_of(double ms) const { return kLeft + ms / span_ms_ * kWidth; }

  void draw(const Panel& panel) {
    add("<g class=\"timeline\">\n<text x=\"8\" y=\"{:.0f}\" font-size=\"13\" font-weight=\"bold\">{}</text>\n", y_ + 17,
        escaped(panel.title));
    y_ += kTitleHeight;
    for (const TimelineRank* rank : panel.ranks) draw(*rank, panel);
    add("</g>\n");
  }

  void draw(const TimelineRank& rank, const Panel& panel) {
    add("<g class=\"rank\">\n<text x=\"8\" y=\"{:.0f}\">rank {}</text>\n", y_ + 14, rank.rank);
    label("compute", kComputeHeight);
    add("<rect x=\"{}\" y=\"{:.0f}\" width=\"{}\" height=\"{}\" fill=\"#f2f2f2\"/>\n", kLeft, y_,
        std::round(x_of(panel.end_ms - panel.begin_ms) - kLeft), kComputeHeight);
    track("compute", rank.of(TraceTrack::kCompute), panel, kComputeHeight, ops_,
          [](int kind) { return std::string(kWorkColours[static_cast<size_t>(kind)]); });
    track("waits", rank.of(TraceTrack::kWait), panel, kComputeHeight, waits_,
          [](int kind) { return fmt::format("url(#wait{})", kind); });
    y_ += kComputeHeight + kRowGap;
    for (int kind = 0; kind < kNumWireKinds; ++kind) {
      std::vector<TimelineSlice> of_kind;
      for (const TimelineSlice& slice : rank.of(TraceTrack::kWire)) {
        if (slice.kind == kind && slice.begin_ms < panel.end_ms && slice.end_ms > panel.begin_ms) {
          of_kind.push_back(slice);
        }
      }
      if (of_kind.empty()) continue;
      label(std::string(kWireKindNames[static_cast<size_t>(kind)]), kWireHeight);
      track("wire", of_kind, panel, kWireHeight, wires_,
            [](int k) { return std::string(kWireColours[static_cast<size_t>(k)]); });
      y_ += kWireHeight + kRowGap;
    }
    y_ += kRankGap;
    add("</g>\n");
  }

  void label(const std::string& text, double height) {
    add("<text x=\"{}\" y=\"{:.0f}\" text-anchor=\"end\" fill=\"#444\">{}</text>\n", kLeft - 6, y_ + height / 2 + 4,
        text);
  }

  // A path for each kind; kinds that show are noted in `used`, with their time.
  template <class Fill>
  void track(const char* name, const std::vector<TimelineSlice>& slices, const Panel& panel, double height,
             std::map<int, double>& used, Fill&& fill) {
    const std::vector<int> kinds = columns_of(slices, panel);
    std::map<int, std::string> paths;
    for (size_t begin = 0; begin < kinds.size();) {
      size_t end = begin + 1;
      while (end < kinds.size() && kinds[end] == kinds[begin]) ++end;
      if (kinds[begin] >= 0) {
        const double width = static_cast<double>(end - begin) * column_;
        fmt::format_to(std::back_inserter(paths[kinds[begin]]), "M{:g} {:g}h{:g}v{:g}h-{:g}z",
                       kLeft + static_cast<double>(begin) * column_, y_, width, height, width);
        used[kinds[begin]] += width;
      }
      begin = end;
    }
    add("<g class=\"{}\">\n", name);
    for (const auto& [kind, path] : paths) add("<path fill=\"{}\" d=\"{}\"/>\n", fill(kind), path);
    add("</g>\n");
  }

  // Of each column the kind that fills most of it, or -1 where none fills a quarter.
  std::vector<int> columns_of(const std::vector<TimelineSlice>& slices, const Panel& panel) const {
    const auto count = static_cast<size_t>(std::ceil(kWidth / column_));
    constexpr size_t kKinds = std::max(kNumWireKinds, kNumWorkKinds);
    std::vector<std::array<double, kKinds>> filled(count);
    for (const TimelineSlice& slice : slices) {
      const double begin = (x_of(std::max(slice.begin_ms, panel.begin_ms) - panel.begin_ms) - kLeft) / column_;
      const double end = (x_of(std::min(slice.end_ms, panel.end_ms) - panel.begin_ms) - kLeft) / column_;
      if (end <= begin) continue;
      for (auto at = static_cast<size_t>(begin); at < count && static_cast<double>(at) < end; ++at) {
        const auto low = static_cast<double>(at);
        filled[at][static_cast<size_t>(slice.kind)] += std::min(end, low + 1) - std::max(begin, low);
      }
    }
    std::vector<int> kinds(count, -1);
    for (size_t at = 0; at < count; ++at) {
      const auto most = std::ranges::max_element(filled[at]);
      if (*most >= 0.25) kinds[at] = static_cast<int>(most - filled[at].begin());
    }
    return kinds;
  }

  void axis() {
    const double tick = tick_step(span_ms_, 8);
    add("<g class=\"axis\" fill=\"#444\">\n<path stroke=\"#444\" d=\"M{:g} {:.0f}h{:g}", kLeft, y_, kWidth);
    const int last = static_cast<int>(std::floor(span_ms_ / tick + 1e-9));
    for (int i = 0; i <= last; ++i) add("M{:.1f} {:.0f}v5", x_of(i * tick), y_);
    add("\"/>\n");
    for (int i = 0; i <= last; ++i) {
      add("<text x=\"{:.1f}\" y=\"{:.0f}\" text-anchor=\"middle\">{:g}{}</text>\n", x_of(i * tick), y_ + 17, i * tick,
          i == last ? " ms" : "");
    }
    add("</g>\n");
    y_ += kAxisHeight;
  }

  void legend() {
    add("<g class=\"legend\">\n");
    double x = kLeft;
    const auto entry = [&](const std::string& fill, const std::string& text) {
      const double width = 30 + 7.2 * static_cast<double>(text.size());
      if (x + width > kLeft + kWidth) {
        x = kLeft;
        y_ += 18;
      }
      add("<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"12\" height=\"10\" fill=\"{}\"/><text x=\"{:.0f}\" y=\"{:.0f}\">{}"
          "</text>\n",
          x, y_, fill, x + 16, y_ + 9, text);
      x += width;
    };
    for (const auto& [kind, unused] : ops_) {
      entry(kWorkColours[static_cast<size_t>(kind)], std::string(name_of(static_cast<WorkKind>(kind))));
    }
    for (const auto& [kind, unused] : wires_) {
      entry(kWireColours[static_cast<size_t>(kind)], fmt::format("{} wire", kWireKindNames[static_cast<size_t>(kind)]));
    }
    for (const auto& [kind, unused] : waits_) {
      entry(fmt::format("url(#wait{})", kind),
            fmt::format("waiting for {}", kWireKindNames[static_cast<size_t>(kind)]));
    }
    add("</g>\n");
    y_ += 22;
  }

  double column_;  // pixels
  double span_ms_ = 0;
  double y_ = 8;
  std::map<int, double> ops_, waits_, wires_;  // kinds that show
  std::string body_;
};

}  // namespace

std::string draw_timelines(const std::vector<Timeline>& timelines, const TimelinePicture& picture) {
  std::vector<Panel> panels;
  for (size_t i = 0; i < timelines.size(); ++i) {
    const std::string& title = i < picture.titles.size() ? picture.titles[i] : timelines[i].file;
    panels.push_back(panel_of(timelines[i], title, picture));
  }
  std::string text;
  for (double column = 0.5; column <= 16; column *= 2) {
    text = Drawing(panels, column).document();
    if (static_cast<int64_t>(text.size()) <= picture.max_bytes) break;
  }
  return text;
}

}  // namespace shoal
