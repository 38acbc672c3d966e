// kernels/topk_keys_cuda.h: a warp's choice of the best f32 values with all of them in registers.
//
// A value becomes an unsigned key that ranks as it does. A lane sorts the keys of its neighbouring ids, best first;
// each round takes the best of the lanes' heads. The key of the last round tells who is chosen: all above it, and of
// its equals the lowest ids. A group of experts is so many whole lanes; those of groups that are out become nobody.
#pragma once

#include "kernels/topk_warp.h"

namespace shoal {

// As ranks_before of topk_warp.h: NaN behind every number, 0 (nobody) behind NaN; both zeros are equal.
__device__ __forceinline__ uint32_t key_of(float value) {
  if (value != value) return 1;
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

// The number of a key that is somebody's.
__device__ __forceinline__ float value_of(uint32_t key) {
  if (key == 1) return __uint_as_float(0x7FFFFFFFu);
  return __uint_as_float((key >> 31) != 0 ? key & 0x7FFFFFFFu : ~key);
}

// Descending, by Batcher's odd-even merges. kCount is a power of two.
template <int kCount>
__device__ __forceinline__ void sort_keys(uint32_t (&keys)[kCount]) {
#pragma unroll
  for (int size = 1; size < kCount; size *= 2) {
#pragma unroll
    for (int distance = size; distance > 0; distance /= 2) {
#pragma unroll
      for (int begin = distance % size; begin + distance < kCount; begin += 2 * distance) {
#pragma unroll
        for (int i = begin; i < begin + distance; ++i) {
          if (i + distance < kCount && i / (2 * size) == (i + distance) / (2 * size)) {
            const uint32_t a = keys[i], b = keys[i + distance];
            keys[i] = a > b ? a : b;
            keys[i + distance] = a > b ? b : a;
          }
        }
      }
    }
  }
}

// Whether a lane's experts may be chosen: their group is among the best, equals by their order. `best` and `second` are
// the lane's own, 0: nobody.
struct KeyGroups {
  int lanes = 0, count = 0, wanted = 0;  // lanes of a group: a power of two
  bool sum_of_two = false;               // what ranks a group: its two best, or its best
};
__device__ __forceinline__ bool is_lane_open(const KeyGroups& groups, uint32_t best, uint32_t second) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  for (int distance = 1; distance < groups.lanes; distance *= 2) {
    const uint32_t other = __shfl_xor_sync(kAll, best, distance), next = __shfl_xor_sync(kAll, second, distance);
    second = Max()(Min()(best, other), Max()(second, next));
    best = Max()(best, other);
  }
  const bool is_sum = groups.sum_of_two && second != 0;
  const uint32_t mine = is_sum ? key_of(value_of(best) + value_of(second)) : best;
  const int group = lane_of_thread() / groups.lanes;
  int before = 0;
  for (int i = 0; i < groups.count; ++i) {
    const uint32_t other = __shfl_sync(kAll, mine, i * groups.lanes);
    before += other > mine || (other == mine && i < group) ? 1 : 0;
  }
  return before < groups.wanted;
}

// kCount keys per lane, of the ids from lane * kCount on, and the same sorted. Writes the `wanted` best ids, ascending.
template <int kCount>
__device__ __forceinline__ void choose_keys(int32_t* ids, const uint32_t (&keys)[kCount], uint32_t (&left)[kCount],
                                            int wanted) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  const int lane = lane_of_thread();
  uint32_t last = 0;
  for (int round = 0; round < wanted; ++round) {
    last = __reduce_max_sync(kAll, left[0]);
    const unsigned lanes = __ballot_sync(kAll, left[0] == last);
    if (lane == __ffs(static_cast<int>(lanes)) - 1) {
#pragma unroll
      for (int i = 0; i + 1 < kCount; ++i) left[i] = left[i + 1];
      left[kCount - 1] = 0;
    }
  }
  int above = 0, equal = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    above += keys[i] > last ? 1 : 0;
    equal += keys[i] == last ? 1 : 0;
  }
  // Both counts of the lanes up to this one, in one number.
  const uint32_t mine = static_cast<uint32_t>(above) | static_cast<uint32_t>(equal) << 16;
  uint32_t sum = mine;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint32_t before = __shfl_up_sync(kAll, sum, distance);
    if (lane >= distance) sum += before;
  }
  int equals_left = wanted - static_cast<int>(__shfl_sync(kAll, sum, kWarp - 1) & 0xFFFFu);
  const int equals_before = static_cast<int>((sum - mine) >> 16);
  int at = static_cast<int>((sum - mine) & 0xFFFFu) + (equals_before < equals_left ? equals_before : equals_left);
  equals_left -= equals_before;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const bool is_equal = keys[i] == last;
    if (keys[i] > last || (is_equal && equals_left > 0)) ids[at++] = lane * kCount + i;
    equals_left -= is_equal ? 1 : 0;
  }
}

// A warp for each token. kWhole: num_experts is kCount * 32, and rows are aligned to 16 bytes. kGrouped: some groups
// are out.
template <int kCount, bool kWhole, bool kGrouped>
__global__ __launch_bounds__(kTokensPerBlock* kWarp) void choose_by_keys(int32_t* experts, const float* scores,
                                                                         const float* bias, int64_t tokens,
                                                                         int num_experts, int topk, KeyGroups groups) {
  const int64_t token = token_of_warp();
  if (token >= tokens) return;
  const int first = lane_of_thread() * kCount;
  const auto load_values = [&](float(&to)[kCount], const float* from) {
    if constexpr (kWhole && kCount % 4 == 0) {
#pragma unroll
      for (int i = 0; i < kCount; i += 4) {
        const float4 four = *reinterpret_cast<const float4*>(from + first + i);
        to[i] = four.x;
        to[i + 1] = four.y;
        to[i + 2] = four.z;
        to[i + 3] = four.w;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) to[i] = first + i < num_experts ? from[first + i] : 0.0f;
    }
  };
  float values[kCount], biases[kCount] = {};
  load_values(values, scores + token * num_experts);
  if (bias != nullptr) load_values(biases, bias);
  uint32_t keys[kCount], sorted[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    keys[i] = kWhole || first + i < num_experts ? key_of(values[i] + biases[i]) : 0;
    sorted[i] = keys[i];
  }
  sort_keys(sorted);
  if constexpr (kGrouped) {
    if (!is_lane_open(groups, sorted[0], kCount > 1 ? sorted[kCount > 1 ? 1 : 0] : 0)) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) keys[i] = sorted[i] = 0;
    }
  }
  choose_keys(experts + token * topk, keys, sorted, topk);
}

}  // namespace shoal
