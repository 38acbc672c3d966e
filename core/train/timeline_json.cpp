// core/train/timeline_json.cpp: threads, slices, flows.
#include "core/train/timeline_json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <iterator>
#include <map>
#include <tuple>

#include "core/base/check.h"

namespace shoal {

namespace {

constexpr int kMostFlowRanks = 8;  // of an operation; beyond, a rank's flows go to the nearest alone

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// A rank's threads, in the order they are shown.
int thread_of(TraceTrack track, int kind, int row) {
  switch (track) {
    case TraceTrack::kStep: return 1;
    case TraceTrack::kData: return 2;
    case TraceTrack::kOptimizer: return 3;
    case TraceTrack::kValidation: return 4;
    case TraceTrack::kCompute: return 10;
    case TraceTrack::kWait: return 11;
    case TraceTrack::kWire: return 1000 * (kind + 1) + row;
  }
  return 0;
}

std::string thread_name(TraceTrack track, int kind, int row) {
  if (track == TraceTrack::kWait) return "waits";
  if (track != TraceTrack::kWire) return category_of(track, -1);
  const std::string_view wire = name_of(static_cast<WireKind>(kind));
  return row == 0 ? std::string(wire) : fmt::format("{} {}", wire, row + 1);
}

// A record with its place.
struct Slice {
  TraceRecord record;
  int row = 0;
  int thread() const { return thread_of(record.track, record.kind, row); }
};

// Slices of one thread come apart, or one inside the other, by construction; but a GPU's clock has grains.
void make_nest(std::vector<TraceRecord>& sorted) {
  std::vector<int64_t> ends;
  for (TraceRecord& record : sorted) {
    while (!ends.empty() && ends.back() <= record.begin_ns) ends.pop_back();
    if (!ends.empty()) record.end_ns = std::min(record.end_ns, ends.back());
    ends.push_back(record.end_ns);
  }
}

std::vector<Slice> slices_of(const RankTrace& trace) {
  std::map<std::pair<TraceTrack, int>, std::vector<TraceRecord>> tracks;
  for (TraceRecord record : trace.records) {
    const bool is_wire = record.track == TraceTrack::kWire;
    // A flow must find a slice that is open.
    if (is_wire) record.end_ns = std::max(record.end_ns, record.begin_ns + 1);
    tracks[{record.track, is_wire ? record.kind : 0}].push_back(record);
  }
  std::vector<Slice> slices;
  for (auto& [key, records] : tracks) {
    const auto order = [](const TraceRecord& record) {
      return std::tuple(record.begin_ns, -record.end_ns, record.group, record.tag);
    };
    std::ranges::stable_sort(records, {}, order);
    std::vector<int> rows;
    if (key.first == TraceTrack::kWire) {
      // Several may wait for one operation: every reader of gathered weights does.
      const auto same = [&](const TraceRecord& a, const TraceRecord& b) { return order(a) == order(b); };
      records.erase(std::unique(records.begin(), records.end(), same), records.end());
      rows = rows_without_overlap(records);
    } else {
      make_nest(records);
      rows.resize(records.size());
    }
    for (size_t i = 0; i < records.size(); ++i) slices.push_back({records[i], rows[i]});
  }
  return slices;
}

class Writer {
 public:
  Writer(const std::function<void(std::string_view)>& write, int64_t origin_ns)
      : write_(write), origin_ns_(origin_ns) {}

  void threads(const RankTrace& trace, const std::vector<Slice>& slices) {
    const int pid = trace.rank;
    event(R"("ph":"M","pid":{},"name":"process_name","args":{{"name":{}}})", pid,
          json_text(fmt::format("rank {} ({})", trace.rank, trace.host)));
    event(R"("ph":"M","pid":{},"name":"process_sort_index","args":{{"sort_index":{}}})", pid, pid);
    std::map<int, std::string> threads;
    for (const Slice& slice : slices) {
      threads[slice.thread()] = thread_name(slice.record.track, slice.record.kind, slice.row);
    }
    for (const auto& [tid, name] : threads) {
      event(R"("ph":"M","pid":{},"tid":{},"name":"thread_name","args":{{"name":{}}})", pid, tid, json_text(name));
      event(R"("ph":"M","pid":{},"tid":{},"name":"thread_sort_index","args":{{"sort_index":{}}})", pid, tid, tid);
    }
  }

  void slice(int pid, const Slice& slice) {
    const TraceRecord& record = slice.record;
    event(R"("ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"cat":"{}","name":{},"args":{{{}}})", pid, slice.thread(),
          time(record.begin_ns), microseconds(record.end_ns - record.begin_ns), category_of(record.track, record.kind),
          json_text(record.name), arguments(record));
  }

  void flow(int id, int from, const Slice& sent, int to, const Slice& received) {
    const int64_t arrival_ns = received.record.end_ns - 1;
    if (sent.record.begin_ns > arrival_ns) return;  // clocks that disagree by more than it took
    const std::string name = json_text(sent.record.name);
    event(R"("ph":"s","pid":{},"tid":{},"ts":{},"cat":"message","name":{},"id":{})", from, sent.thread(),
          time(sent.record.begin_ns), name, id);
    event(R"("ph":"f","bp":"e","pid":{},"tid":{},"ts":{},"cat":"message","name":{},"id":{})", to, received.thread(),
          time(arrival_ns), name, id);
  }

 private:
  template <class... Args>
  void event(fmt::format_string<Args...> format, Args&&... args) {
    line_ = is_first_ ? "\n{" : ",\n{";
    is_first_ = false;
    fmt::format_to(std::back_inserter(line_), format, std::forward<Args>(args)...);
    line_ += '}';
    write_(line_);
  }
  std::string time(int64_t ns) const { return microseconds(ns - origin_ns_); }
  // To the nanosecond, exactly.
  static std::string microseconds(int64_t ns) {
    const char* sign = ns < 0 ? "-" : "";
    const int64_t size = std::abs(ns);
    return fmt::format("{}{}.{:03}", sign, size / 1000, size % 1000);
  }

  static std::string arguments(const TraceRecord& record) {
    std::string text;
    const auto add = [&text](std::string_view key, const auto& value) {
      fmt::format_to(std::back_inserter(text), R"({}"{}":{})", text.empty() ? "" : ",", key, value);
    };
    const double seconds = std::max<double>(1, static_cast<double>(record.end_ns - record.begin_ns)) * 1e-9;
    if (record.track == TraceTrack::kStep) add("step", record.tag);
    if (record.lane >= 0) add("lane", record.lane);
    if (record.microbatch >= 0) add("microbatch", record.microbatch);
    if (record.layer >= 0) add("layer", record.layer);
    if (record.flops > 0) {
      add("flops", record.flops);
      add("gflop_per_s", fmt::format("{:.4g}", record.flops / seconds * 1e-9));
    }
    if (record.bytes > 0 || record.track == TraceTrack::kWire) {
      add("bytes", static_cast<int64_t>(record.bytes));
      add("gb_per_s", fmt::format("{:.4g}", record.bytes / seconds * 1e-9));
    }
    if (record.track == TraceTrack::kWire) {
      add("group", fmt::format("\"{:x}\"", record.group));
      add("tag", record.tag);
    }
    return text;
  }

  const std::function<void(std::string_view)>& write_;
  int64_t origin_ns_;
  bool is_first_ = true;
  std::string line_;
};

struct End {
  int rank = 0;
  const Slice* slice = nullptr;
};

// The slices of one operation, one a rank. A tag that comes again (there should be none) is another operation.
std::vector<std::vector<End>> operations_of(const std::vector<RankTrace>& ranks,
                                            const std::vector<std::vector<Slice>>& slices) {
  std::map<std::tuple<uint64_t, int64_t, int>, std::vector<End>> ends;
  for (size_t i = 0; i < ranks.size(); ++i) {
    std::map<std::pair<uint64_t, int64_t>, int> times_seen;
    for (const Slice& slice : slices[i]) {
      if (slice.record.track != TraceTrack::kWire) continue;
      const int seen = times_seen[{slice.record.group, slice.record.tag}]++;
      ends[{slice.record.group, slice.record.tag, seen}].push_back({ranks[i].rank, &slice});
    }
  }
  std::vector<std::vector<End>> operations;
  for (auto& [key, members] : ends) operations.push_back(std::move(members));
  return operations;
}

// Where bytes went, as far as both ends were recorded.
void write_flows(const std::vector<std::vector<End>>& operations, Writer& writer) {
  int next_id = 1;
  for (const std::vector<End>& ends : operations) {
    std::map<int, const End*> members;
    for (const End& end : ends) members[end.slice->record.rank] = &end;
    for (const auto& [member, sender] : members) {
      const TraceRecord& sent = sender->slice->record;
      for (uint64_t left = sent.sent_to; left != 0; left &= left - 1) {
        const auto receiver = members.find((member + std::countr_zero(left) + 1) % sent.size);
        if (receiver == members.end()) continue;
        writer.flow(next_id++, sender->rank, *sender->slice, receiver->second->rank, *receiver->second->slice);
        if (sent.size > kMostFlowRanks) break;
      }
    }
  }
}

std::string header(const std::vector<RankTrace>& ranks, const TimelineInfo& info) {
  nlohmann::ordered_json other{
      {"producer", "shoal"}, {"config", info.config}, {"schedule", info.schedule}, {"date", info.date}};
  if (!info.commit.empty()) other["commit"] = info.commit;
  for (const RankTrace& trace : ranks) {
    other["clocks"].push_back({{"rank", trace.rank},
                               {"host", trace.host},
                               {"moved_by_ns", -trace.clock.before.ns},
                               {"moved_at_the_end_by_ns", -trace.clock.behind.ns},
                               {"error_ns", trace.clock.error_ns()},
                               {"gpu_error_ns", trace.device_error_ns}});
  }
  return fmt::format("{{\"displayTimeUnit\":\"ms\",\"otherData\":{},\n\"traceEvents\":[",
                     other.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

std::string category_of(TraceTrack track, int kind) {
  switch (track) {
    case TraceTrack::kStep: return "step";
    case TraceTrack::kData: return "data";
    case TraceTrack::kOptimizer: return "optimizer";
    case TraceTrack::kValidation: return "validation";
    case TraceTrack::kCompute:
      return kind < 0 ? "compute" : fmt::format("compute.{}", name_of(static_cast<WorkKind>(kind)));
    case TraceTrack::kWait: return fmt::format("wait.{}", name_of(static_cast<WireKind>(kind)));
    case TraceTrack::kWire: return fmt::format("wire.{}", name_of(static_cast<WireKind>(kind)));
  }
  return "?";
}

std::vector<int> rows_without_overlap(const std::vector<TraceRecord>& sorted) {
  std::vector<int64_t> row_ends;
  std::vector<int> rows;
  for (const TraceRecord& record : sorted) {
    size_t row = 0;
    while (row < row_ends.size() && row_ends[row] > record.begin_ns) ++row;
    if (row == row_ends.size()) row_ends.push_back(0);
    row_ends[row] = record.end_ns;
    rows.push_back(static_cast<int>(row));
  }
  return rows;
}

void write_timeline(const std::vector<RankTrace>& ranks, const TimelineInfo& info,
                    const std::function<void(std::string_view)>& write) {
  std::vector<std::vector<Slice>> slices;
  int64_t origin_ns = std::numeric_limits<int64_t>::max();
  for (const RankTrace& trace : ranks) {
    slices.push_back(slices_of(trace));
    for (const TraceRecord& record : trace.records) origin_ns = std::min(origin_ns, record.begin_ns);
  }
  write(header(ranks, info));
  Writer writer(write, origin_ns);
  for (size_t i = 0; i < ranks.size(); ++i) {
    writer.threads(ranks[i], slices[i]);
    for (const Slice& slice : slices[i]) writer.slice(ranks[i].rank, slice);
  }
  write_flows(operations_of(ranks, slices), writer);
  write("\n]}\n");
}

}  // namespace shoal
