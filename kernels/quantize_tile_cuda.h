// kernels/quantize_tile_cuda.h: what the kernels of quantisation share: a tile's largest number and its codes, and what
// was lost.
#pragma once

#include "kernels/quantize_source_cuda.h"

namespace shoal {

// ------------------------------------------------------------------------------------------------ largest numbers
// The sizes (size_bits) of eight neighbours, or the largest so far: two bf16 to a word, or one f32.

template <class Held>
constexpr bool kIsPacked = std::is_same_v<Held, HeldBf16>;
template <class Held>
constexpr int kSizeWords = kIsPacked<Held> ? kRunLength / 2 : kRunLength;
template <class Held>
using Sizes = Words<kSizeWords<Held>>;

template <bool kPacked>
__device__ __forceinline__ uint32_t larger_sizes(uint32_t a, uint32_t b) {
  return kPacked ? max_of_halves(a, b) : Max()(a, b);
}

template <class Held>
__device__ __forceinline__ Sizes<Held> sizes_of(const Held& held) {
  Sizes<Held> sizes;
  if constexpr (kIsPacked<Held>) {
#pragma unroll
    for (int i = 0; i < kRunLength / 2; ++i) sizes[i] = held[i] & 0x7FFF7FFFu;
  } else {
    const Run<float> values = numbers_of(held);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) sizes[i] = size_bits(values[i]);
  }
  return sizes;
}

// The larger of a size and that of x. What is not a number has one beyond infinity's.
__device__ __forceinline__ uint32_t larger_size(uint32_t size, float x) {
#if SHOAL_PACKED_INSTRUCTIONS
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(std::bit_cast<float>(size)), "f"(fabsf(x)));
  return std::bit_cast<uint32_t>(larger);
#else
  return Max()(size, size_bits(x));
#endif
}
template <class Held>
__device__ __forceinline__ void add_sizes(Sizes<Held>& largest, const Held& held) {
  if constexpr (kIsPacked<Held>) {
    const Sizes<Held> sizes = sizes_of(held);
#pragma unroll
    for (int k = 0; k < kSizeWords<Held>; ++k) largest[k] = max_of_halves(largest[k], sizes[k]);
  } else {
    const Run<float> values = numbers_of(held);
#pragma unroll
    for (int k = 0; k < kRunLength; ++k) largest[k] = larger_size(largest[k], values[k]);
  }
}

// The k-th, and the largest of all, as the bits of an f32.
template <class Held>
__device__ __forceinline__ uint32_t size_at(const Sizes<Held>& sizes, int k) {
  if constexpr (!kIsPacked<Held>) return sizes[k];
  const uint32_t pair = sizes[k / 2];
  return k % 2 == 0 ? pair << 16 : pair & 0xFFFF0000u;
}
template <class Held>
__device__ __forceinline__ uint32_t largest_of(const Sizes<Held>& sizes) {
  constexpr bool kPacked = kIsPacked<Held>;
  uint32_t largest = sizes[0];
#pragma unroll
  for (int i = 1; i < kSizeWords<Held>; ++i) largest = larger_sizes<kPacked>(largest, sizes[i]);
  return kPacked ? Max()(largest & 0xFFFF0000u, largest << 16) : largest;
}

// Of each of kTiles tiles, of which sixteen lanes have a part each: lane l has that of tile l / (16 / kTiles) at the
// end. All lanes of the warp call it. Every step halves what a lane still has, or the lanes it has to hear of.
template <int kTiles>
__device__ __forceinline__ uint32_t largest_of_lanes(uint32_t (&largest)[kTiles]) {
  static_assert(kTiles == 4 || kTiles == 8);
  const unsigned lane = threadIdx.x;
  int left = kTiles;
#pragma unroll
  for (int distance = kTileLanes / 2; distance > 0; distance /= 2) {
    const bool keeps_upper = (lane & static_cast<unsigned>(distance)) != 0;
    if (left > 1) {
      left /= 2;
#pragma unroll
      for (int i = 0; i < kTiles / 2; ++i) {
        if (i >= left) break;
        const uint32_t keep = keeps_upper ? largest[i + left] : largest[i];
        const uint32_t give = keeps_upper ? largest[i] : largest[i + left];
        largest[i] = Max()(keep, __shfl_xor_sync(0xFFFFFFFFu, give, distance));
      }
    } else {
      largest[0] = Max()(largest[0], __shfl_xor_sync(0xFFFFFFFFu, largest[0], distance));
    }
  }
  return largest[0];
}
// What the lanes that have tile i at the end of largest_of_lanes made of it.
template <int kTiles>
__device__ __forceinline__ float from_lanes_of(int i, float value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp / kTileLanes * kTileLanes + i * (kTileLanes / kTiles);
  return __shfl_sync(0xFFFFFFFFu, value, lane);
}

// What one thread saw lost; what a block's threads did goes to `partial`, for add_quantize_counts.
struct ThreadCounts {
  uint32_t saturated = 0, flushed = 0, not_finite = 0;
  float min_scale = std::numeric_limits<float>::infinity(), max_scale = 0;

  // `amax_bits` as tile_factors had them. A tile of zeros has the scale of min_amax, which says nothing.
  __device__ void add_scale(float scale, uint32_t amax_bits) {
    if (amax_bits >= 0x7F800000u) {
      ++not_finite;
    } else if (amax_bits != 0) {
      min_scale = scale < min_scale ? scale : min_scale;
      max_scale = scale > max_scale ? scale : max_scale;
    }
  }
  __device__ void add(const ThreadCounts& other) {
    saturated += other.saturated;
    flushed += other.flushed;
    not_finite += other.not_finite;
    min_scale = Min()(min_scale, other.min_scale);
    max_scale = Max()(max_scale, other.max_scale);
  }
  // A NaN's code is neither the largest number nor zero; what is not there is zero.
  template <class Held>
  __device__ void add_codes(const HeldCodes& codes, const Held& held, bool are_finite) {
    if (!are_finite) return add_codes_one_by_one(codes, held);
    // Adding 127 carries into bit 7 of whatever is not zero.
    constexpr uint32_t kSizes = 0x7F7F7F7Fu, kSeven = 0x80808080u, kSaturated = 0x01010101u * E4M3::kLargest;
    const uint32_t first = codes[0] & kSizes, second = codes[1] & kSizes;
    const uint32_t others =
        (((first ^ kSaturated) + kSizes) & kSeven) | (((second ^ kSaturated) + kSizes) & kSeven) >> 1;
    const uint32_t not_zero = ((first + kSizes) & kSeven) | ((second + kSizes) & kSeven) >> 1;
    saturated += static_cast<uint32_t>(kRunLength - count_bits(others));
    flushed += static_cast<uint32_t>(count_not_zero(held) - count_bits(not_zero));
  }

 private:
  __device__ static int count_not_zero(const HeldBf16& held) {
    constexpr uint32_t kSizes = 0x7FFF7FFFu;
    uint32_t not_zero = 0;
#pragma unroll
    for (int i = 0; i < kRunLength / 2; ++i) not_zero |= (((held[i] & kSizes) + kSizes) & ~kSizes) >> i;
    return count_bits(not_zero);
  }
  template <class Held>
  __device__ static int count_not_zero(const Held& held) {
    const Run<float> values = numbers_of(held);
    int count = 0;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) count += values[i] != 0 ? 1 : 0;
    return count;
  }
  template <class Held>
  __device__ void add_codes_one_by_one(const HeldCodes& codes, const Held& held) {
    const Run<float> values = numbers_of(held);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      const uint32_t code = codes[i / 4] >> (i % 4 * 8) & 0x7Fu;
      saturated += code == E4M3::kLargest ? 1u : 0u;
      flushed += code == 0 && values[i] != 0 ? 1u : 0u;
    }
  }
};
static_assert(sizeof(ThreadCounts) == kNumPartialCounts * 4);

// All threads of the block call it, once, at the end. A block's share of 2^31 * kMostQuantizeBlocks values fits.
__device__ __forceinline__ void store_block_counts(ThreadCounts* partial, const ThreadCounts& mine) {
  __shared__ Words<kNumPartialCounts> of_warp[kWarp];
  ThreadCounts sum;
  sum.saturated = warp_reduce(mine.saturated);
  sum.flushed = warp_reduce(mine.flushed);
  sum.not_finite = warp_reduce(mine.not_finite);
  sum.min_scale = warp_reduce(mine.min_scale, Min());
  sum.max_scale = warp_reduce(mine.max_scale, Max());
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = std::bit_cast<Words<kNumPartialCounts>>(sum);
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned warp = 1; warp < blockDim.x / kWarp; ++warp) sum.add(std::bit_cast<ThreadCounts>(of_warp[warp]));
  partial[blockIdx.x] = sum;
}

// Adds what `blocks` blocks counted among `values` values to the table.
void add_quantize_counts(const char* op, const QuantizeOptionsView& options, int64_t values, const Grid& grid,
                         CudaQueue queue);

inline ThreadCounts* partial_of(const QuantizeOptionsView& options) { return options.partial.as<ThreadCounts>(); }

// The codes that stay: those of tiles that are finite.
__device__ __forceinline__ HeldCodes finite_of(const Run<float>& inverse) {
  HeldCodes mask = {};
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) mask[i / 4] |= inverse[i] == inverse[i] ? 0xFFu << (i % 4 * 8) : 0u;
  return mask;
}
__device__ __forceinline__ HeldCodes finite_of(float inverse) {
  const uint32_t mask = inverse == inverse ? 0xFFFFFFFFu : 0u;
  return {{mask, mask}};
}
__device__ __forceinline__ float inverse_at(const Run<float>& inverse, int i) { return inverse[i]; }
__device__ __forceinline__ float inverse_at(float inverse, int) { return inverse; }

// One run's codes, each at its own inverse scale or all at one, and what they lost if that is to be counted. `finite`:
// of finite_of(inverse).
template <bool kCounted, class Held, class Inverse>
__device__ __forceinline__ HeldCodes encode_run(const Held& held, const Inverse& inverse, const HeldCodes& finite,
                                                ThreadCounts& counts) {
  const Run<float> values = numbers_of(held);
  HeldCodes codes;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float scaled[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) scaled[k] = values[4 * i + k] * inverse_at(inverse, 4 * i + k);
    codes[i] = encode_four(scaled[0], scaled[1], scaled[2], scaled[3]);
  }
  // Before what is not finite becomes zero, as the CPU has it.
  if constexpr (kCounted) counts.add_codes(codes, held, (finite[0] & finite[1]) == 0xFFFFFFFFu);
  codes[0] &= finite[0];
  codes[1] &= finite[1];
  return codes;
}

}  // namespace shoal
