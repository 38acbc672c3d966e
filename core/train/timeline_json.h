// core/train/timeline_json.h: timeline.json: the records of ranks in Chrome's trace event format, for
// https://ui.perfetto.dev.
//
// One process a rank; its threads are tracks: step, data, optimizer, validation, compute, waits, and one for each kind
// of wire. Slices of a thread must nest, so transfers that overlap lie on further threads ("dispatch 2"). Names are
// short; who, how much and how fast is in the arguments. A slice's category says its track and kind
// ("compute.gemm", "wait.combine", "wire.dispatch"), and timeline_file.h reads it back.
//
// A flow goes from a rank to each other one that it sent bytes to and that was recorded too, from the begin of the
// sender's slice to the end of the receiver's. (Perfetto draws the arrow from the slice that began first.) In a group
// of more than 8 ranks it goes to the nearest of them alone; what is more than 64 places away in a circle is not known.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/train/trace_gather.h"

namespace shoal {

struct TimelineInfo {
  std::string config;    // model.name
  std::string schedule;  // parallel.overlap
  std::string date;
  std::string commit;  // empty: not known
};

// "compute.gemm", "wire.dispatch", "step".
std::string category_of(TraceTrack track, int kind);

// Times count from the first record's begin. `write` receives the text piece by piece.
void write_timeline(const std::vector<RankTrace>& ranks, const TimelineInfo& info,
                    const std::function<void(std::string_view)>& write);

// Of intervals sorted by begin: for each the first row, from 0, in which it overlaps none before it.
std::vector<int> rows_without_overlap(const std::vector<TraceRecord>& sorted);

}  // namespace shoal
