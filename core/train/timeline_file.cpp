// core/train/timeline_file.cpp: slices by category, and intervals without intervals.
#include "core/train/timeline_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "core/base/check.h"
#include "core/base/input_file.h"
#include "core/base/json_value.h"
#include "core/train/timeline_json.h"

namespace shoal {

namespace {

struct TrackKind {
  TraceTrack track = TraceTrack::kStep;
  int kind = 0;
};

const std::map<std::string, TrackKind, std::less<>>& categories() {
  static const auto all = [] {
    std::map<std::string, TrackKind, std::less<>> found;
    for (int t = 0; t < kNumTraceTracks; ++t) {
      const auto track = static_cast<TraceTrack>(t);
      const bool of_wire = track == TraceTrack::kWait || track == TraceTrack::kWire;
      const int num_kinds = of_wire ? kNumWireKinds : track == TraceTrack::kCompute ? kNumWorkKinds : 1;
      for (int kind = 0; kind < num_kinds; ++kind) found[category_of(track, kind)] = {track, kind};
    }
    return found;
  }();
  return all;
}

// Of a member that may be absent: then 0.
int64_t integer_at(const JsonValue& object, const char* key, int64_t most) {
  return object.has(key) ? object.at(key).integer(0, most) : 0;
}
std::string string_at(const JsonValue& object, const char* key) { return object.at(key).string_or(""); }

void add_event(const JsonValue& event, std::map<int, TimelineRank>& ranks) {
  const std::string phase = string_at(event, "ph");
  const int pid = static_cast<int>(integer_at(event, "pid", INT32_MAX));
  if (phase == "M" && string_at(event, "name") == "process_name") {
    ranks[pid].name = string_at(event.at("args"), "name");
  }
  if (phase != "X") return;
  const auto found = categories().find(string_at(event, "cat"));
  if (found == categories().end()) return;
  const JsonValue arguments = event.at("args");
  constexpr int64_t kMost = int64_t{1} << 53;
  TimelineSlice slice{.begin_ms = event.at("ts").number() * 1e-3,
                      .end_ms = 0,
                      .kind = found->second.kind,
                      .step = integer_at(arguments, "step", kMost),
                      .bytes = integer_at(arguments, "bytes", kMost)};
  slice.end_ms = slice.begin_ms + event.at("dur").number() * 1e-3;
  ranks[pid].track[static_cast<size_t>(found->second.track)].push_back(slice);
}

// Intervals that do not overlap, in order.
class Intervals {
 public:
  Intervals() = default;
  // What of the slices lies inside [begin, end); sorted by begin. kind -1: all kinds.
  Intervals(const std::vector<TimelineSlice>& slices, double begin, double end, int kind = -1) {
    for (const TimelineSlice& slice : slices) {
      if (kind >= 0 && slice.kind != kind) continue;
      add(std::max(slice.begin_ms, begin), std::min(slice.end_ms, end));
    }
  }
  double total() const {
    return std::accumulate(all_.begin(), all_.end(), 0.0,
                           [](double sum, const Interval& one) { return sum + one.end - one.begin; });
  }
  Intervals without(const Intervals& others) const {
    Intervals rest;
    size_t k = 0;
    for (const Interval& one : all_) {
      double begin = one.begin;
      while (k < others.all_.size() && others.all_[k].end <= begin) ++k;
      for (size_t i = k; i < others.all_.size() && others.all_[i].begin < one.end; ++i) {
        rest.add(begin, others.all_[i].begin);
        begin = std::max(begin, others.all_[i].end);
      }
      rest.add(begin, one.end);
    }
    return rest;
  }
  Intervals with(const Intervals& others) const {
    std::vector<Interval> both = all_;
    both.insert(both.end(), others.all_.begin(), others.all_.end());
    std::ranges::sort(both, {}, &Interval::begin);
    Intervals joined;
    for (const Interval& one : both) joined.add(one.begin, one.end);
    return joined;
  }

 private:
  struct Interval {
    double begin, end;
  };
  // Begins come in order.
  void add(double begin, double end) {
    if (begin >= end) return;
    if (!all_.empty() && begin <= all_.back().end) {
      all_.back().end = std::max(all_.back().end, end);
    } else {
      all_.push_back({begin, end});
    }
  }
  std::vector<Interval> all_;
};

StepTimes times_of(const TimelineRank& rank, const TimelineSlice& step) {
  const double begin = step.begin_ms, end = step.end_ms;
  StepTimes times{.step = step.step, .rank = rank.rank, .step_ms = end - begin};
  Intervals taken(rank.of(TraceTrack::kCompute), begin, end);
  times.compute_ms = taken.total();
  for (int kind = 0; kind < kNumWireKinds; ++kind) {
    const auto k = static_cast<size_t>(kind);
    const Intervals waits = Intervals(rank.of(TraceTrack::kWait), begin, end, kind).without(taken);
    times.exposed_ms[k] = waits.total();
    taken = taken.with(waits);
    times.wire_ms[k] = Intervals(rank.of(TraceTrack::kWire), begin, end, kind).total();
  }
  const Intervals data = Intervals(rank.of(TraceTrack::kData), begin, end).without(taken);
  times.data_ms = data.total();
  times.idle_ms = times.step_ms - taken.with(data).total();
  return times;
}

bool is_wanted(const StepTimes& times, int64_t step, const std::vector<int>& ranks) {
  return (step == 0 || times.step == step) && (ranks.empty() || std::ranges::count(ranks, times.rank) > 0);
}

// The mean behind each step of several ranks.
std::vector<StepTimes> wanted_times(const Timeline& timeline, int64_t step, const std::vector<int>& ranks) {
  std::vector<StepTimes> wanted, of_step;
  const auto end_step = [&] {
    if (of_step.size() > 1) wanted.push_back(mean_of(of_step));
    of_step.clear();
  };
  for (const StepTimes& times : step_times(timeline)) {
    if (!is_wanted(times, step, ranks)) continue;
    if (!of_step.empty() && of_step.back().step != times.step) end_step();
    of_step.push_back(times);
    wanted.push_back(times);
  }
  end_step();
  if (wanted.empty()) {
    fail("{} has no such step and rank: it holds {}", timeline.file, [&] {
      std::string held;
      for (const StepTimes& times : step_times(timeline)) {
        held += fmt::format("{}step {} of rank {}", held.empty() ? "" : ", ", times.step, times.rank);
      }
      return held.empty() ? std::string("no steps") : held;
    }());
  }
  return wanted;
}

std::string rank_text(int rank) { return rank < 0 ? "mean" : fmt::format("{}", rank); }

}  // namespace

double StepTimes::exposed_total_ms() const { return std::accumulate(exposed_ms.begin(), exposed_ms.end(), 0.0); }

Timeline read_timeline(const std::filesystem::path& file) {
  constexpr int64_t kMaxBytes = int64_t{1} << 30;
  const std::string text = read_small_file(file, "a timeline", kMaxBytes);
  Timeline timeline{.file = file.string(), .config = {}, .schedule = {}, .ranks = {}};
  std::map<int, TimelineRank> ranks;
  try {
    const JsonDocument document(text, file.string());
    const JsonValue all = document.root(), other = all.at("otherData"), events = all.at("traceEvents");
    timeline.config = string_at(other, "config");
    timeline.schedule = string_at(other, "schedule");
    for (size_t i = 0; i < events.size(); ++i) add_event(events.at(i), ranks);
  } catch (const Error& error) {
    fail("{} is no timeline: {}; name a timeline.json that a run with train.timeline wrote", file.string(),
         error.what());
  }
  for (auto& [pid, rank] : ranks) {
    rank.rank = pid;
    for (std::vector<TimelineSlice>& slices : rank.track) {
      std::ranges::stable_sort(slices, {}, &TimelineSlice::begin_ms);
    }
    timeline.ranks.push_back(std::move(rank));
  }
  return timeline;
}

std::vector<StepTimes> step_times(const Timeline& timeline) {
  std::vector<StepTimes> all;
  for (const TimelineRank& rank : timeline.ranks) {
    for (const TimelineSlice& step : rank.of(TraceTrack::kStep)) all.push_back(times_of(rank, step));
  }
  std::ranges::stable_sort(all, {}, [](const StepTimes& times) { return std::pair(times.step, times.rank); });
  return all;
}

StepTimes mean_of(const std::vector<StepTimes>& of_ranks) {
  StepTimes mean{.step = of_ranks.front().step, .rank = -1};
  const double share = 1 / static_cast<double>(of_ranks.size());
  for (const StepTimes& times : of_ranks) {
    mean.step_ms += times.step_ms * share;
    mean.compute_ms += times.compute_ms * share;
    mean.data_ms += times.data_ms * share;
    mean.idle_ms += times.idle_ms * share;
    for (size_t k = 0; k < kNumWireKinds; ++k) {
      mean.exposed_ms[k] += times.exposed_ms[k] * share;
      mean.wire_ms[k] += times.wire_ms[k] * share;
    }
  }
  return mean;
}

std::string timeline_table(const Timeline& timeline, int64_t step, const std::vector<int>& ranks) {
  const std::vector<StepTimes> all = wanted_times(timeline, step, ranks);
  std::vector<size_t> kinds;  // columns: those that anybody waited for
  for (size_t k = 0; k < kNumWireKinds; ++k) {
    if (std::ranges::any_of(all, [k](const StepTimes& times) { return times.exposed_ms[k] >= 0.005; })) {
      kinds.push_back(k);
    }
  }
  std::string text = fmt::format("{}: {}, schedule {}; ms, exposed wire by kind\n", timeline.file,
                                 timeline.config.empty() ? "?" : timeline.config, timeline.schedule);
  text += fmt::format("{:>6} {:>5} {:>10} {:>10}", "step", "rank", "step time", "compute");
  for (const size_t k : kinds) text += fmt::format(" {:>10}", kWireKindNames[k]);
  text += fmt::format(" {:>10} {:>10} {:>10}\n", "exposed", "data", "idle");
  for (const StepTimes& times : all) {
    text += fmt::format("{:>6} {:>5} {:>10.2f} {:>10.2f}", times.step, rank_text(times.rank), times.step_ms,
                        times.compute_ms);
    for (const size_t k : kinds) text += fmt::format(" {:>10.2f}", times.exposed_ms[k]);
    text += fmt::format(" {:>10.2f} {:>10.2f} {:>10.2f}\n", times.exposed_total_ms(), times.data_ms, times.idle_ms);
  }
  return text;
}

std::string timeline_table_json(const std::vector<Timeline>& timelines, int64_t step, const std::vector<int>& ranks) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Timeline& timeline : timelines) {
    for (const StepTimes& times : wanted_times(timeline, step, ranks)) {
      nlohmann::ordered_json row{{"file", timeline.file},
                                 {"schedule", timeline.schedule},
                                 {"step", times.step},
                                 {"rank", rank_text(times.rank)},
                                 {"step_ms", times.step_ms},
                                 {"compute_ms", times.compute_ms},
                                 {"exposed_ms", times.exposed_total_ms()},
                                 {"data_ms", times.data_ms},
                                 {"idle_ms", times.idle_ms}};
      for (size_t k = 0; k < kNumWireKinds; ++k) {
        row["exposed_ms_by_kind"][kWireKindNames[k]] = times.exposed_ms[k];
        row["wire_ms_by_kind"][kWireKindNames[k]] = times.wire_ms[k];
      }
      rows.push_back(std::move(row));
    }
  }
  return rows.dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace shoal
