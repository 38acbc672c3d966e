// tests/base/cpu_threads_test.cpp: who gets which CPUs, for every way mpirun may have bound the ranks.
#include "core/base/cpu_threads.h"

#include <catch2/catch.hpp>
#include <sched.h>

#include <algorithm>
#include <thread>

#include "core/base/openmp.h"

namespace shoal {

namespace {

using Cpus = std::vector<int>;

struct Saved {  // this thread's affinity and OpenMP's thread count, restored at the end
  cpu_set_t set;
  int threads = omp_get_max_threads();
  Saved() { sched_getaffinity(0, sizeof(set), &set); }
  ~Saved() {
    sched_setaffinity(0, sizeof(set), &set);
    omp_set_num_threads(threads);
  }
};

}  // namespace

TEST_CASE("a rank alone takes its whole mask") {
  const CpuThreads plan = plan_cpu_threads({{0, 1, 2, 3}}, 0, 0);
  REQUIRE(plan.num_threads == 4);
  REQUIRE(plan.ranks_on_mask == 1);
  REQUIRE(plan.cpus == Cpus{0, 1, 2, 3});
  REQUIRE_FALSE(plan.pinned);
}

TEST_CASE("ranks bound to masks of their own keep them, whatever their sizes") {
  const std::vector<Cpus> masks{{0}, {1, 2}, {3}};
  REQUIRE(plan_cpu_threads(masks, 0, 0).cpus == Cpus{0});
  REQUIRE(plan_cpu_threads(masks, 1, 0).cpus == Cpus{1, 2});
  REQUIRE(plan_cpu_threads(masks, 1, 0).num_threads == 2);
  REQUIRE(plan_cpu_threads(masks, 2, 0).ranks_on_mask == 1);
}

TEST_CASE("ranks that share one mask split it into runs that do not overlap") {
  const std::vector<Cpus> masks(2, Cpus{2, 3, 6, 7});
  const CpuThreads first = plan_cpu_threads(masks, 0, 0);
  const CpuThreads second = plan_cpu_threads(masks, 1, 0);
  REQUIRE(first.cpus == Cpus{2, 3});
  REQUIRE(second.cpus == Cpus{6, 7});
  REQUIRE(first.num_threads == 2);
  REQUIRE(second.ranks_on_mask == 2);
}

TEST_CASE("CPUs left over by an uneven split stay free, so that all ranks have equal threads") {
  const std::vector<Cpus> masks(3, Cpus{0, 1, 2, 3});
  for (int rank = 0; rank < 3; ++rank) {
    REQUIRE(plan_cpu_threads(masks, rank, 0).cpus == Cpus{rank});
    REQUIRE(plan_cpu_threads(masks, rank, 0).num_threads == 1);
  }
}

TEST_CASE("more ranks than CPUs: one thread each, going round") {
  const std::vector<Cpus> masks(4, Cpus{0, 1});
  for (int rank = 0; rank < 4; ++rank) {
    const CpuThreads plan = plan_cpu_threads(masks, rank, 0);
    REQUIRE(plan.num_threads == 1);
    REQUIRE(plan.cpus == Cpus{rank % 2});
  }
}

TEST_CASE("two masks on one machine are shared by their own ranks only") {
  const std::vector<Cpus> masks{{0, 1}, {2, 3}, {0, 1}, {2, 3}};
  REQUIRE(plan_cpu_threads(masks, 0, 0).cpus == Cpus{0});
  REQUIRE(plan_cpu_threads(masks, 2, 0).cpus == Cpus{1});
  REQUIRE(plan_cpu_threads(masks, 3, 0).cpus == Cpus{3});
}

TEST_CASE("a forced thread count is taken as it is") {
  REQUIRE(plan_cpu_threads({{0, 1, 2, 3}}, 0, 3).num_threads == 3);
  REQUIRE(plan_cpu_threads({{0}}, 0, 2).num_threads == 2);
}

TEST_CASE("this process may run somewhere") {
  const Cpus cpus = affinity_cpus();
  REQUIRE_FALSE(cpus.empty());
  REQUIRE(std::ranges::is_sorted(cpus));
}

TEST_CASE("applying a plan sets OpenMP's threads and pins them when they fill the CPUs") {
  const Saved saved;
  const int cpu = affinity_cpus().back();
  CpuThreads one{.cpus = {cpu}, .num_threads = 1};
  apply_cpu_threads(one);
  REQUIRE(one.pinned);
  REQUIRE(omp_get_max_threads() == 1);
  REQUIRE(affinity_cpus() == Cpus{cpu});
  REQUIRE(sched_getcpu() == cpu);
}

TEST_CASE("threads that leave CPUs idle may run on each of them") {
  const Saved saved;
  const Cpus all = affinity_cpus();
  CpuThreads plan{.cpus = all, .num_threads = 1};
  plan.cpus.push_back(all[0]);  // even where there is one
  apply_cpu_threads(plan);
  REQUIRE_FALSE(plan.pinned);
  REQUIRE(affinity_cpus() == all);
}

TEST_CASE("a helper thread may leave the CPU that its maker was pinned to") {
  const Saved saved;
  const Cpus all = affinity_cpus();
  CpuThreads plan{.cpus = all, .num_threads = static_cast<int>(all.size())};
  apply_cpu_threads(plan);
  REQUIRE(affinity_cpus() == Cpus{all[0]});
  Cpus inherited, freed;
  std::thread([&] {
    inherited = affinity_cpus();
    unpin_this_thread();
    freed = affinity_cpus();
  }).join();
  REQUIRE(inherited == Cpus{all[0]});
  REQUIRE(freed == all);
}

TEST_CASE("more threads than CPUs are not pinned") {
  const Saved saved;
  const Cpus before = affinity_cpus();
  CpuThreads three{.cpus = {before[0]}, .num_threads = 3};
  apply_cpu_threads(three);
  REQUIRE_FALSE(three.pinned);
  REQUIRE(omp_get_max_threads() == 3);
  REQUIRE(affinity_cpus() == before);
}

TEST_CASE("plans say what they are") {
  REQUIRE(describe({.cpus = {0, 1}, .num_threads = 2, .pinned = true}) == "2 threads on CPUs 0-1 (pinned)");
  REQUIRE(describe({.cpus = {5}, .num_threads = 1}) == "1 thread on CPU 5 (not pinned)");
  REQUIRE(describe({.cpus = {0, 1, 2, 8, 10, 11}, .num_threads = 6, .pinned = true}) ==
          "6 threads on CPUs 0-2,8,10-11 (pinned)");
}

}  // namespace shoal
