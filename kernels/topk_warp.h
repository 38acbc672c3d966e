// kernels/topk_warp.h: what the router's kernels share: a warp for each token, and its choice of the best.
#pragma once

#include "kernels/cuda_launch.h"
#include "kernels/cuda_rows.h"

namespace shoal {

constexpr int kTokensPerBlock = 8;

inline Grid grid_of_tokens(int64_t tokens, int tokens_per_block = kTokensPerBlock) {
  return {dim3(static_cast<unsigned>(ceil_div(tokens, tokens_per_block))),
          dim3(static_cast<unsigned>(tokens_per_block * kWarp))};
}
__device__ __forceinline__ int64_t token_of_warp() { return index_of_thread() / kWarp; }
__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % kWarp; }

// Router tensors are f32 or f64.
template <class F>
void dispatch_scores(const TensorView& scores, F&& f) {
  if (scores.dtype == DType::kF64) {
    f(double{});
  } else {
    f(float{});
  }
}

enum class Place : uint8_t { kOut, kOpen, kChosen };

template <class A>
struct Candidate {
  A value = 0;
  int id = -1;  // -1: nobody
};

// A total order: the larger value, then the lower id; NaN behind all numbers, nobody behind all.
template <class A>
__device__ __forceinline__ bool ranks_before(const Candidate<A>& a, const Candidate<A>& b) {
  if (a.id < 0 || b.id < 0) return a.id >= 0 && b.id < 0;
  if (a.value > b.value) return true;
  if (a.value < b.value) return false;
  const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
  return a_is_nan == b_is_nan ? a.id < b.id : b_is_nan;
}

// Of the lanes' candidates, on every lane.
template <class A>
__device__ __forceinline__ Candidate<A> best_of_warp(Candidate<A> best) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Candidate<A> other{__shfl_xor_sync(0xFFFFFFFFu, best.value, distance),
                             __shfl_xor_sync(0xFFFFFFFFu, best.id, distance)};
    if (ranks_before(other, best)) best = other;
  }
  return best;
}

// The warp moves the `wanted` best of those that are open to kChosen. A lane looks after every 32nd; what others wrote
// is visible when it returns.
template <class A>
__device__ void choose_best(Place* places, const A* values, int count, int wanted) {
  for (int round = 0; round < wanted; ++round) {
    Candidate<A> best;
    for (int i = lane_of_thread(); i < count; i += kWarp) {
      const Candidate<A> candidate{values[i], i};
      if (places[i] == Place::kOpen && ranks_before(candidate, best)) best = candidate;
    }
    best = best_of_warp(best);
    if (best.id % kWarp == lane_of_thread()) places[best.id] = Place::kChosen;
  }
  __syncwarp();
}

// A group's best value, or the sum of its two best. One lane does it alone.
template <class A>
__device__ A group_value(const A* values, int count, bool sum_of_two) {
  Candidate<A> best, second;
  for (int i = 0; i < count; ++i) {
    const Candidate<A> candidate{values[i], i};
    if (ranks_before(candidate, best)) {
      second = best;
      best = candidate;
    } else if (ranks_before(candidate, second)) {
      second = candidate;
    }
  }
  return sum_of_two && second.id >= 0 ? best.value + second.value : best.value;
}

// The chosen ids, ascending.
__device__ inline void write_chosen(int32_t* ids, const Place* places, int count) {
  int written = 0;
  for (int begin = 0; begin < count; begin += kWarp) {
    const int i = begin + lane_of_thread();
    const bool chosen = i < count && places[i] == Place::kChosen;
    const unsigned lanes = __ballot_sync(0xFFFFFFFFu, chosen);
    const unsigned before = lanes & ((1u << lane_of_thread()) - 1u);
    if (chosen) ids[written + __popc(before)] = i;
    written += __popc(lanes);
  }
}

}  // namespace shoal
