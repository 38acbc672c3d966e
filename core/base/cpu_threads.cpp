// core/base/cpu_threads.cpp: masks, shares and pinning.
#include "core/base/cpu_threads.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>

#include "core/base/openmp.h"

namespace shoal {

namespace {

// Of this rank, once its threads are pinned. Helper threads start afterwards.
std::vector<int> cpus_of_rank;

}  // namespace

std::vector<int> affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

CpuThreads plan_cpu_threads(const std::vector<std::vector<int>>& local_masks, int local_rank, int forced_threads) {
  const std::vector<int>& mine = local_masks[static_cast<size_t>(local_rank)];
  CpuThreads threads;
  threads.ranks_on_mask = 0;
  int place = 0;  // this rank's position among those that share its mask
  for (size_t rank = 0; rank < local_masks.size(); ++rank) {
    if (local_masks[rank] != mine) continue;
    if (static_cast<int>(rank) < local_rank) ++place;
    ++threads.ranks_on_mask;
  }
  const int share = std::max(1, static_cast<int>(mine.size()) / threads.ranks_on_mask);
  threads.num_threads = forced_threads > 0 ? forced_threads : share;
  for (int i = 0; i < share && !mine.empty(); ++i) {
    threads.cpus.push_back(mine[static_cast<size_t>(place * share + i) % mine.size()]);
  }
  return threads;
}

void apply_cpu_threads(CpuThreads& threads) {
  omp_set_dynamic(0);
  omp_set_num_threads(threads.num_threads);
  // Let the kernel place them where there are more threads or ranks than CPUs; and where there are fewer: another job
  // that leaves CPUs idle would take the same ones.
  if (threads.num_threads != static_cast<int>(threads.cpus.size())) return;
  bool ok = true;
#pragma omp parallel num_threads(threads.num_threads) reduction(&& : ok)
  {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(threads.cpus[static_cast<size_t>(omp_get_thread_num())], &set);
    ok = sched_setaffinity(0, sizeof(set), &set) == 0;
  }
  threads.pinned = ok;
  cpus_of_rank = threads.cpus;
}

void unpin_this_thread() {
  if (cpus_of_rank.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus_of_rank) CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);  // best effort: a slower helper is no error
}

std::string describe(const CpuThreads& threads) {
  std::string cpus;
  for (size_t i = 0; i < threads.cpus.size();) {
    size_t last = i;
    while (last + 1 < threads.cpus.size() && threads.cpus[last + 1] == threads.cpus[last] + 1) ++last;
    cpus += (i > 0 ? "," : "") + std::to_string(threads.cpus[i]);
    if (last > i) cpus += "-" + std::to_string(threads.cpus[last]);
    i = last + 1;
  }
  return fmt::format("{} thread{} on CPU{} {}{}", threads.num_threads, threads.num_threads == 1 ? "" : "s",
                     threads.cpus.size() == 1 ? "" : "s", cpus, threads.pinned ? " (pinned)" : " (not pinned)");
}

}  // namespace shoal
