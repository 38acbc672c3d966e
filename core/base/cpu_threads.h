// core/base/cpu_threads.h: how many threads this rank computes with, and where they run.
#pragma once

#include <string>
#include <vector>

namespace shoal {

struct CpuThreads {
  std::vector<int> cpus;  // this process's affinity mask when it started
  int ranks_on_mask = 1;  // local ranks that share the mask (all of them when mpirun bound nobody)
  int num_threads = 1;    // CPUs in the mask / ranks that share it, at least 1
  bool pinned = false;    // OpenMP threads were pinned one per CPU, of which there are as many
};

// CPUs this process may run on, ascending.
std::vector<int> affinity_cpus();

// The plan for a rank: with a mask of its own it takes all of it; ranks that share one mask split it contiguously.
// `local_masks` holds the masks of every rank on this machine, in local rank order.
CpuThreads plan_cpu_threads(const std::vector<std::vector<int>>& local_masks, int local_rank, int forced_threads);

// Sets OpenMP's thread count and pins its threads where they fill the CPUs. Call once, from the thread that computes.
void apply_cpu_threads(CpuThreads& threads);

// For helper threads: lets the calling one run on all CPUs of this rank, though the thread that made it was pinned to
// one. Nothing happens before apply_cpu_threads.
void unpin_this_thread();

// "2 threads on CPUs 0-1 (pinned)"
std::string describe(const CpuThreads& threads);

}  // namespace shoal
