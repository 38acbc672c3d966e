// kernels/quantize_tile_cuda.h: what the kernels of quantisation share: where a tile's numbers come from, its largest
// number and its codes, and what was lost.
//
// Sixteen neighbouring lanes, a run of eight elements each, are a tile along a row.
#pragma once

#include "kernels/packed_math_cuda.h"
#include "kernels/quantize_cuda.h"
#include "kernels/swiglu_math_cuda.h"

namespace shoal {

constexpr int kTileLanes = kTile / kRunLength;

// May runs of eight of these rows be read and written whole?
inline bool has_whole_runs(const TensorView& x) {
  const int64_t run = kRunLength * size_of(x.dtype), access = run < 16 ? run : 16;
  const auto address = reinterpret_cast<uintptr_t>(x.data);
  return address % static_cast<uintptr_t>(access) == 0 &&
         (x.rows <= 1 || x.row_stride * size_of(x.dtype) % access == 0);
}
template <class... Views>
bool have_whole_runs(const Views&... views) {
  return (has_whole_runs(views) && ...);
}

// And are all of their runs whole?
template <class... Views>
bool are_whole_runs(int64_t width, const Views&... views) {
  return width % kRunLength == 0 && have_whole_runs(views...);
}

// Eight numbers as a thread keeps them: in words, or the compiler would give every number narrower than that a register
// of its own.
template <class T>
using HeldRun = Words<kRunLength * sizeof(T) / 4>;
using HeldBf16 = HeldRun<bfloat16>;
using HeldF32 = HeldRun<float>;
using HeldCodes = HeldRun<float8_e4m3>;

// kAligned: of are_whole_runs; then a run is there, or it is not. Zeros are behind the first `count` numbers.
template <bool kAligned, class T>
__device__ __forceinline__ HeldRun<T> load_held(const T* from, int64_t count) {
  if constexpr (kAligned && sizeof(T) == 1) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    return {{words.x, words.y}};
  } else if constexpr (kAligned) {
    HeldRun<T> held;
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(held) / sizeof(uint4)); ++i) {
      const uint4 words = reinterpret_cast<const uint4*>(from)[i];
      held[4 * i] = words.x;
      held[4 * i + 1] = words.y;
      held[4 * i + 2] = words.z;
      held[4 * i + 3] = words.w;
    }
    return held;
  } else {
    Run<T> values = {};
    load_run<false>(values, from, count);
    return std::bit_cast<HeldRun<T>>(values);
  }
}
template <bool kAligned>
__device__ __forceinline__ void store_held(float8_e4m3* to, const HeldCodes& codes, int64_t count) {
  if constexpr (kAligned) {
    if (count > 0) *reinterpret_cast<uint2*>(to) = {codes[0], codes[1]};
  } else {
    store_run<false>(to, std::bit_cast<Run<float8_e4m3>>(codes), count);
  }
}

inline Grid quantize_grid(int64_t items, int threads, bool is_counted) {
  const int64_t most = is_counted ? kMostQuantizeBlocks : int64_t{1} << 30;
  const int64_t blocks = items < most ? items : most;
  return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads))};
}

struct QuantizedTarget {
  RowsOf<float8_e4m3> codes;
  RowsOf<float> scales;

  __host__ __device__ bool defined() const { return codes.data != nullptr; }
};
inline QuantizedTarget target_of(const QuantizedView& out) {
  return {rows_of<float8_e4m3>(out.codes), rows_of<float>(out.scales)};
}

// ------------------------------------------------------------------------------------------ where numbers come from
// run(row, column, count): the first `count` of eight numbers, zeros behind them.

// Codes and the scale of their tile: a quarter of the registers that their numbers would take.
struct ScaledCodes {
  HeldCodes codes;
  float scale;
};

__device__ __forceinline__ Run<float> numbers_of(const HeldF32& held) { return std::bit_cast<Run<float>>(held); }
__device__ __forceinline__ Run<float> numbers_of(const HeldBf16& held) {
  Run<float> values;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) {
    values[i] = std::bit_cast<float>(i % 2 == 0 ? held[i / 2] << 16 : held[i / 2] & 0xFFFF0000u);
  }
  return values;
}
__device__ __forceinline__ Run<float> numbers_of(const ScaledCodes& held) {
  Run<float> values;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float four[4];
    decode_four(four, held.codes[i]);
#pragma unroll
    for (int k = 0; k < 4; ++k) values[4 * i + k] = four[k] * held.scale;
  }
  return values;
}

template <bool kAligned, class T>
struct StoredNumbers {
  using Held = HeldRun<T>;
  RowsOf<const T> x;

  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    return load_held<kAligned>(x.at(row, column), count);
  }
};

// Row i is row index[i] of x; where x has no such row, it is NaN.
template <bool kAligned, class T>
struct GatheredNumbers {
  using Held = HeldRun<T>;
  RowsOf<const T> x;
  const int32_t* index = nullptr;
  int64_t rows = 0;  // of x

  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    const int64_t source = index[row];
    if (source >= 0 && source < rows) return load_held<kAligned>(x.at(source, column), count);
    Held held;
#pragma unroll
    for (uint32_t& word : held.words) word = 0x7FFF7FFFu;
    return held;
  }
};

template <bool kAligned, class T>
struct SwigluNumbers {
  using Held = HeldRun<T>;
  RowsOf<const T> gate, up;
  const float* weights = nullptr;

  struct Read {
    Held gates, ups;
    float weight;
  };
  __device__ __forceinline__ Read read(int64_t row, int64_t column, int64_t count) const {
    return {load_held<kAligned>(gate.at(row, column), count), load_held<kAligned>(up.at(row, column), count),
            weights != nullptr ? weights[row] : 1.0f};
  }
  __device__ __forceinline__ Held made_of(const Read& read, int64_t count) const {
    const Run<float> gates = numbers_of(read.gates), ups = numbers_of(read.ups);
    Run<float> values;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      values[i] = kAligned || i < count ? swiglu_before_rounding(gates[i], ups[i], read.weight) : 0.0f;
    }
    return round_run<T>(values);
  }
  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    return made_of(read(row, column, count), count);
  }
};

// Codes times the scales of their tiles.
template <bool kAligned>
struct DecodedNumbers {
  using Held = ScaledCodes;
  RowsOf<const float8_e4m3> codes;
  RowsOf<const float> scales;

  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    const uint32_t tile = static_cast<uint32_t>(column) / static_cast<uint32_t>(kTile);
    return {load_held<kAligned>(codes.at(row, column), count), *scales.at(row, tile)};
  }
};

// kRuns whole runs, row_of(i) the row of the i-th: four times what is read for one at a time is in flight.
template <int kRuns, class Numbers, class RowOf>
__device__ __forceinline__ void load_whole_runs(typename Numbers::Held (&held)[kRuns], const Numbers& numbers,
                                                RowOf&& row_of, int64_t column) {
  if constexpr (requires { typename Numbers::Read; }) {
#pragma unroll
    for (int first = 0; first < kRuns; first += 4) {
      typename Numbers::Read read[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) read[i] = numbers.read(row_of(first + i), column, kRunLength);
#pragma unroll
      for (int i = 0; i < 4; ++i) held[first + i] = numbers.made_of(read[i], kRunLength);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kRuns; ++i) held[i] = numbers.run(row_of(i), column, kRunLength);
  }
}

// Calls f(source) with the numbers of a SwiGLU.
template <class F>
void dispatch_swiglu(const QuantizedView& out, const TensorView& gate_up, const TensorView& weights, F&& f) {
  const TensorView up = up_of(gate_up);
  const bool aligned = are_whole_runs(out.codes.width, gate_up, up, out.codes);
  const auto with = [&]<class T>(T) {
    const RowsOf<const T> gates = rows_of<const T>(gate_up), ups = rows_of<const T>(up);
    if (aligned) {
      f(SwigluNumbers<true, T>{gates, ups, weights.as<float>()}, std::true_type());
    } else {
      f(SwigluNumbers<false, T>{gates, ups, weights.as<float>()}, std::false_type());
    }
  };
  if (gate_up.dtype == DType::kBF16) return with(bfloat16{});
  with(float{});
}

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
