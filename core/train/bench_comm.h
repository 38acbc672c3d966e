// core/train/bench_comm.h: latency and bandwidth of a communicator's verbs, in the terms of nccl-tests.
//
//   bytes          what one rank holds of the larger of the verb's two tensors: all_gather's result, the input of
//                  reduce_scatter and of all_to_all, all that all_reduce and broadcast work on
//   algorithm GB/s bytes / median time
//   bus GB/s       algorithm GB/s * bus_factor: what each rank must send at least, whatever the algorithm, so that it
//                  compares with the speed of the link, and between numbers of ranks
//
// Everything is f32. Rows are one element wide; all_to_all_rows' are even, those of all_gather_rows and
// reduce_scatter_rows uneven: rank r has a share of r + 1, and their bus GB/s are what even pieces would be.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/train/rank_timing.h"

namespace shoal {

struct BenchCommOptions {
  int64_t min_bytes = 1 << 10;
  int64_t max_bytes = 16 << 20;
  int64_t factor = 4;    // from one size to the next, at least 2
  double seconds = 0.2;  // of each measurement
};

struct VerbTime {
  std::string verb;
  int64_t bytes = 0;  // even pieces round it down; 0: barrier
  int num_ranks = 1;
  RankTime time = {};
  double algorithm_gb_per_s = 0;
  double bus_gb_per_s = 0;
  int64_t wrong = 0;  // elements, over all ranks, that were not what they must be
};

// 2 (n - 1) / n of all_reduce, 1 of broadcast, (n - 1) / n of the others.
double bus_factor(const std::string& verb, int num_ranks);

// Collective: every verb on every size, barrier last. Calls `report` (on every rank) after each. After the timed runs,
// which are on zeros, each verb runs once more on numbers that differ between elements and ranks, and the result is
// compared.
std::vector<VerbTime> bench_verbs(Communicator& group, Allocator& allocator, const BenchCommOptions& options,
                                  const std::function<void(const VerbTime&)>& report = {});

// A table's heading, a line of it, one JSON object.
std::string verb_heading(const Communicator& group);
std::string describe(const VerbTime& time);
std::string to_json(const VerbTime& time);

}  // namespace shoal
