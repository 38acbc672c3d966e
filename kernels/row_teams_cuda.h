// kernels/row_teams_cuda.h: rows that stay in registers: a team of threads (half a warp, a warp, a block) takes a row.
//
// A pass takes a few rows, kRuns runs of each per thread: all of them are on their way before the first is used. Which
// team a width gets depends on nothing else, so that a row's sum has the same bits in every kernel that asks for it.
#pragma once

#include "kernels/cuda_block.h"

namespace shoal {

constexpr int kWholeBlock = 0;

// Lanes of a team (or kWholeBlock), runs of a row per thread, rows in a pass.
template <int kTeamLanes, int kTeamRuns, int kTeamRows>
struct RowTeam {
  static constexpr int kLanes = kTeamLanes, kRuns = kTeamRuns, kRows = kTeamRows;
  static constexpr bool kIsBlock = kLanes == kWholeBlock;
  static constexpr int kMostThreads = kIsBlock ? 512 : 256;
  static constexpr int kBlocksAtOnce = 2;  // on a multiprocessor, at least
  static constexpr int64_t kMostWidth = int64_t{kIsBlock ? kMostThreads : kLanes} * kRuns * kRunLength;

  static constexpr int kTeams = kIsBlock ? 1 : kMostThreads / (kIsBlock ? 1 : kLanes);  // of a block

  static __device__ int size() { return kIsBlock ? static_cast<int>(blockDim.x) : kLanes; }
  static __device__ int team() { return kIsBlock ? 0 : static_cast<int>(threadIdx.x) / (kMostThreads / kTeams); }
  static __device__ int lane() { return static_cast<int>(threadIdx.x) - team() * kLanes; }
  static __device__ int column(int run) { return (run * size() + lane()) * kRunLength; }

  static int threads(int64_t width) {
    return kIsBlock ? threads_for_row(ceil_div(width, kRuns), kMostThreads) : kMostThreads;
  }
  static constexpr int64_t kRowsPerBlock = int64_t{kTeams} * kRows;

  // The team's rows: for (row = first_row(); is_pass(row, rows); row += step()), as often for all threads of a warp and
  // of a block. A pass may reach behind the last row.
  static __device__ int64_t first_row() { return (int64_t{blockIdx.x} * kTeams + team()) * kRows; }
  static __device__ int64_t step() { return int64_t{gridDim.x} * kRowsPerBlock; }
  static __device__ bool is_pass(int64_t row, int64_t rows) {
    constexpr int kTeamsOfWarp = kIsBlock ? 1 : kTeams * kWarp / kMostThreads;
    return row - team() % kTeamsOfWarp * kRows < rows;
  }
};

// What was loaded is unpacked anew from here on, and what a pointer leads to read anew: else the compiler keeps a row's
// elements in f32 from its first use to its second, in twice the registers.
template <class T>
__device__ __forceinline__ void forget_unpacked([[maybe_unused]] Run<T>& run) {
#ifdef __CUDA_ARCH__
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(run) / sizeof(uint32_t)); ++i) {
    asm volatile("" : "+r"(reinterpret_cast<uint32_t*>(&run)[i]));
  }
#endif
}
template <class T>
__device__ __forceinline__ const T* forget_loaded(const T* pointer) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(pointer));
#endif
  return pointer;
}

// store<T>, by the GPU's own conversion to bf16: the same but for the bits of a NaN, and one instruction.
template <class T, class A>
__device__ __forceinline__ T round_to(A value) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == sizeof(uint16_t)) {
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return T::from_bits(bits);
  }
#endif
  return store<T>(value);
}

// Sums over the team's threads, on each of them. `turn` begins at 0 and counts a kernel's calls: two copies of the
// shared memory take turns, so that one barrier is enough.
template <class Team, class A>
__device__ __forceinline__ void team_sums(A (&sums)[Team::kRows], int& turn) {
  constexpr int kDistance = (Team::kIsBlock ? kWarp : Team::kLanes) / 2;
#pragma unroll
  for (int distance = kDistance; distance > 0; distance /= 2) {
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) sums[u] += __shfl_xor_sync(0xFFFFFFFFu, sums[u], distance);
  }
  if constexpr (Team::kIsBlock) {
    __shared__ A of_warps[2][Team::kRows][kWarp];
    auto& mine = of_warps[turn];
    turn ^= 1;
    const int warp = static_cast<int>(threadIdx.x) / kWarp, num_warps = static_cast<int>(blockDim.x) / kWarp;
    if (threadIdx.x % kWarp == 0) {
#pragma unroll
      for (int u = 0; u < Team::kRows; ++u) mine[u][warp] = sums[u];
    }
    __syncthreads();
#pragma unroll
    for (int u = 0; u < Team::kRows; ++u) {
      A sum = mine[u][0];
      for (int i = 1; i < num_warps; ++i) sum += mine[u][i];
      sums[u] = sum;
    }
  }
}

// Calls f(RowTeam{}) with the team that a row of `width` gets; false: no team's registers hold it.
template <class T, class F>
bool with_row_team(int64_t width, F&& f) {
  if constexpr (sizeof(T) <= sizeof(float)) {
    const auto fits = [&]<class Team>(Team team) {
      if (width > Team::kMostWidth) return false;
      f(team);
      return true;
    };
    return fits(RowTeam<kWarp / 2, 1, 4>{}) || fits(RowTeam<kWarp, 4, 1>{}) || fits(RowTeam<kWholeBlock, 2, 1>{});
  }
  return false;
}

}  // namespace shoal
