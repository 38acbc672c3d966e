// core/train/trace_gather.h: the records of all ranks on one, and on one clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/trace.h"
#include "parallel/communicator.h"

namespace shoal {

// A rank's clock against rank 0's, as one look found it.
struct ClockOffset {
  int64_t ns = 0;        // this clock minus rank 0's
  int64_t error_ns = 0;  // at most this wrong; 0: it is the same clock
  int64_t at_ns = 0;     // when, on this clock
};

// Between a look before and one behind what was recorded, a clock is taken to gain or lose evenly.
struct ClockOffsets {
  ClockOffset before, behind;

  // At a time on this clock; the nearer look for times outside of both.
  int64_t at(int64_t ns) const;
  int64_t error_ns() const { return std::max(before.error_ns, behind.error_ns); }
};

// Which clock a rank reads: ranks with equal `machine` share it.
struct RankClock {
  uint64_t machine = 0;
  std::function<int64_t()> now_ns;
};
// steady_ns(), which all processes of a machine share from its boot on.
RankClock this_machine_clock();

// Collective. Of every rank, on every rank. One rank of each machine other than rank 0's exchanges messages with rank 0
// and takes its answers to be half-way through the quickest round trip of 16.
std::vector<ClockOffset> align_clocks(Communicator& world, const RankClock& clock);

// What one rank recorded.
struct RankTrace {
  int rank = 0;
  std::string host;
  int64_t device_error_ns = 0;  // Tracer::clock_error_ns
  ClockOffsets clock;
  std::shared_ptr<const std::vector<std::string>> names;  // what the records' names point to
  std::vector<TraceRecord> records;                       // on rank 0's clock
};

// Collective. Rank 0: of every rank that `records` (in rank order), moved to rank 0's clock; the others: nothing.
std::vector<RankTrace> gather_traces(Communicator& world, bool records, const std::vector<TraceRecord>& mine,
                                     int64_t device_error_ns, const std::vector<ClockOffsets>& clocks);

}  // namespace shoal
