// core/train/bench_overlap.h: how much of the wire each schedule hides: the same step on links of several speeds.
//
// The compute of a step is measured first, on links that are endlessly fast; then the bytes that it sends say how fast
// a link must be for wire and compute to be in a given ratio. On each such link every schedule runs a step in turn, and
// on paper; before each turn, compute and ops are timed again.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/train/rehearsal.h"

namespace shoal {

struct OverlapBenchOptions {
  // Links by the ratio of wire to compute on them, or by their speed; both empty: as they are.
  std::vector<double> ratios, bytes_per_s;
  int pairs = 5;  // steps of each schedule on each link, taken in turn
  double latency_us = 30;
  std::filesystem::path timelines;  // a folder for SCHEDULE.json, one step each where ratio is 1; empty: none
  std::vector<ParallelConfig::Overlap::Schedule> schedules;  // the first is what the others are compared with
  // Collective: the links between nodes from now on, bytes/s one way (0: endless) and latency.
  std::function<void(double bytes_per_s, double latency_s)> set_links;
};

struct OverlapRun {
  ParallelConfig::Overlap::Schedule schedule = ParallelConfig::Overlap::OFF;
  double step_s = 0;            // median, slowest rank
  double exposed_s = 0;         // median of the mean over ranks: waited for the wire with nothing to compute
  WireSeconds exposed_by_kind;  // mean over ranks and steps
  double speedup = 1;           // of the first schedule's step to this one's: median, round by round
  // 0 where links are as they are; medians of what each round says:
  double over_max = 0;     // the step over the larger of compute and wire
  double simulated_s = 0;  // the step on paper (step_prediction.h)
};

struct OverlapRow {
  double ratio = 0;        // of wire_s to the compute that was measured first: what was asked for
  double compute_s = 0;    // a step of one lane on endless links, median of the rounds; 0: not known
  double waited_s = 0;     // of it, for the other ranks: mean over ranks, median of the rounds
  double bytes_per_s = 0;  // of a node's link, one way; 0: as it is
  double wire_s = 0;       // the busiest link alone
  std::vector<OverlapRun> runs;
};

struct OverlapBench {
  double compute_s = 0;        // one lane, endless links
  int64_t bytes_per_step = 0;  // over the busiest node's link, one way
  int64_t tokens_per_step = 0;
  int microbatches = 0;
  std::vector<int64_t> peak_memory_bytes;       // of each schedule, this rank
  std::vector<int64_t> predicted_memory_bytes;  // likewise
  std::vector<OverlapRow> rows;
};

// Collective. parallel.overlap is replaced by each of the schedules.
OverlapBench bench_overlap(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute,
                           const OverlapBenchOptions& options);

std::string describe(const OverlapBench& bench);
std::string to_json(const OverlapBench& bench);

}  // namespace shoal
