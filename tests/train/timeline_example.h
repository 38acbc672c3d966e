// tests/train/timeline_example.h: a step of two ranks, as a timeline, for tests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/train/timeline_file.h"
#include "core/train/timeline_json.h"
#include "tests/temporary_folder.h"

namespace shoal {

constexpr int64_t kMs = 1'000'000;

inline TraceRecord record_of(TraceTrack track, int kind, int64_t begin_ms, int64_t end_ms, const char* name = "x") {
  TraceRecord record;
  record.name = name;
  record.track = track;
  record.kind = static_cast<uint8_t>(kind);
  record.begin_ns = begin_ms * kMs;
  record.end_ns = end_ms * kMs;
  return record;
}

// Of the first of two ranks, which sends to the other, unless told otherwise.
inline TraceRecord wire_of(WireKind kind, int64_t begin_ms, int64_t end_ms, uint64_t group, int64_t tag, int rank = 0,
                           int size = 2, uint64_t sent_to = 1) {
  TraceRecord record = record_of(TraceTrack::kWire, static_cast<int>(kind), begin_ms, end_ms, name_of(kind).data());
  record.group = group;
  record.tag = tag;
  record.bytes = 1024;
  record.rank = rank;
  record.size = size;
  record.sent_to = sent_to;
  return record;
}

// A step of 100 ms: 60 computing, 25 waiting of which 5 beside an op, 4 for data of which 1 beside an op.
inline RankTrace example_rank(int rank) {
  RankTrace trace;
  trace.rank = rank;
  trace.host = "host \"a\"";
  TraceRecord step = record_of(TraceTrack::kStep, 0, 1000, 1100, "step");
  step.tag = 7;
  trace.records = {step,
                   record_of(TraceTrack::kData, 0, 1000, 1004, "data"),
                   record_of(TraceTrack::kCompute, 0, 1003, 1043, "gemm"),
                   record_of(TraceTrack::kWait, 1, 1043, 1053, "combine"),
                   record_of(TraceTrack::kWait, 0, 1053, 1068, "dispatch"),
                   record_of(TraceTrack::kCompute, 2, 1063, 1083, "add"),
                   record_of(TraceTrack::kOptimizer, 0, 1083, 1090, "optimizer"),
                   wire_of(WireKind::kDispatch, 1010, 1030, 1, 1, rank),
                   wire_of(WireKind::kDispatch, 1020, 1050, 1, 2, rank),  // overlaps the one before
                   wire_of(WireKind::kDispatch, 1030, 1035, 1, 3, rank),  // has room in the first row
                   wire_of(WireKind::kCombine, 1040, 1040, 2, 1, rank)};  // took no time
  trace.records.push_back(trace.records[8]);                              // somebody else waited for it too
  return trace;
}

inline std::string text_of(const std::vector<RankTrace>& ranks) {
  std::string text;
  write_timeline(ranks, {.config = "tiny", .schedule = "OFF", .date = "today", .commit = ""},
                 [&text](std::string_view part) { text += part; });
  return text;
}

inline Timeline read_text(const TemporaryFolder& folder, const std::string& text) {
  make_file(folder / "timeline.json", text);
  return read_timeline(folder / "timeline.json");
}

}  // namespace shoal
