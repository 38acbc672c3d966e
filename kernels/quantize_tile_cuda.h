// kernels/quantize_tile_cuda.h: what the kernels of quantisation share: where a tile's numbers come from, its largest
// number and its codes, and what was lost.
//
// Sixteen neighbouring lanes, a run of eight elements each, are a tile along a row.
#pragma once

#include "kernels/cuda_block.h"
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

inline Grid quantize_grid(int64_t items, int threads) {
  const int64_t blocks = items < kMostQuantizeBlocks ? items : kMostQuantizeBlocks;
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

template <bool kAligned, class T>
struct StoredNumbers {
  using Number = T;
  RowsOf<const T> x;

  __device__ Run<T> run(int64_t row, int64_t column, int64_t count) const {
    Run<T> values = {};
    load_run<kAligned>(values, x.at(row, column), count);
    return values;
  }
};

// Row i is row index[i] of x.
template <bool kAligned, class T>
struct GatheredNumbers {
  using Number = T;
  RowsOf<const T> x;
  const int32_t* index = nullptr;
  int64_t rows = 0;  // of x

  __device__ Run<T> run(int64_t row, int64_t column, int64_t count) const {
    Run<T> values = {};
    const int64_t source = index[row];
    if (source >= 0 && source < rows) {
      load_run<kAligned>(values, x.at(source, column), count);
    } else {
#pragma unroll
      for (int i = 0; i < kRunLength; ++i) values[i] = store<T>(std::numeric_limits<float>::quiet_NaN());
    }
    return values;
  }
};

template <bool kAligned, class T>
struct SwigluNumbers {
  using Number = T;
  RowsOf<const T> gate, up;
  const float* weights = nullptr;

  __device__ Run<T> run(int64_t row, int64_t column, int64_t count) const {
    Run<T> gates = {}, ups = {};
    load_run<kAligned>(gates, gate.at(row, column), count);
    load_run<kAligned>(ups, up.at(row, column), count);
    const float weight = weights != nullptr ? weights[row] : 1.0f;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) gates[i] = i < count ? swiglu_of(gates[i], ups[i], weight) : T{};
    return gates;
  }
};

// Codes times the scales of their tiles.
template <bool kAligned>
struct DecodedNumbers {
  using Number = float;
  RowsOf<const float8_e4m3> codes;
  RowsOf<const float> scales;

  __device__ Run<float> run(int64_t row, int64_t column, int64_t count) const {
    Run<float8_e4m3> from = {};
    Run<float> values = {};
    if (count <= 0) return values;
    load_run<kAligned>(from, codes.at(row, column), count);
    const float scale = *scales.at(row, column / kTile);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) values[i] = i < count ? load(from[i]) * scale : 0.0f;
    return values;
  }
};

// Calls f(source) with the numbers of a SwiGLU.
template <class F>
void dispatch_swiglu(const QuantizedView& out, const TensorView& gate_up, const TensorView& weights, F&& f) {
  const TensorView up = up_of(gate_up);
  const bool aligned = have_whole_runs(gate_up, up, out.codes);
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

// ---------------------------------------------------------------------------------------------- tiles along a row

// The bits of the largest magnitude among the sixteen lanes' runs, on each of them. All lanes of the warp call it.
template <class T>
__device__ __forceinline__ uint32_t tile_amax_bits(const Run<T>& values) {
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) {
    const uint32_t size = f32_bits(size_bits(values[i]));
    largest = size > largest ? size : largest;
  }
#pragma unroll
  for (int distance = kTileLanes / 2; distance > 0; distance /= 2) {
    const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, largest, distance);
    largest = other > largest ? other : largest;
  }
  return largest;
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
  // A NaN's code is neither the largest number nor zero.
  __device__ void add_code(uint32_t code, uint32_t size, bool is_there) {
    saturated += (code & 0x7Fu) == E4M3::kLargest && is_there ? 1u : 0u;
    flushed += (code & 0x7Fu) == 0 && size != 0 && is_there ? 1u : 0u;
  }
};
static_assert(sizeof(ThreadCounts) == kNumPartialCounts * 4);

// All threads of the block call it, once, at the end. A block's share of 2^31 * kMostQuantizeBlocks values fits.
__device__ __forceinline__ void store_block_counts(ThreadCounts* partial, const ThreadCounts& mine) {
  ThreadCounts block;
  block.saturated = block_reduce(mine.saturated);
  block.flushed = block_reduce(mine.flushed);
  block.not_finite = block_reduce(mine.not_finite);
  block.min_scale = block_reduce(mine.min_scale, Min());
  block.max_scale = block_reduce(mine.max_scale, Max());
  if (threadIdx.x == 0) partial[blockIdx.x] = block;
}

// Adds what `blocks` blocks counted among `values` values to the table.
void add_quantize_counts(const char* op, const QuantizeOptionsView& options, int64_t values, const Grid& grid,
                         CudaQueue queue);

inline ThreadCounts* partial_of(const QuantizeOptionsView& options) { return options.partial.as<ThreadCounts>(); }

// One run's codes, each at its own inverse scale, and what they lost if that is to be counted.
template <class T>
__device__ __forceinline__ Run<float8_e4m3> encode_run(const Run<T>& values, const Run<float>& inverse, int64_t count,
                                                       ThreadCounts& counts, bool is_counted) {
  Run<float8_e4m3> codes;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) {
    codes[i].bits = static_cast<uint8_t>(E4M3::encode(load(values[i]) * inverse[i]));
    if (is_counted) counts.add_code(codes[i].bits, f32_bits(size_bits(values[i])), i < count);
    if (inverse[i] != inverse[i]) codes[i].bits = 0;  // after counting, as the CPU has it
  }
  return codes;
}
__device__ __forceinline__ Run<float> eight_of(float value) {
  return {value, value, value, value, value, value, value, value};
}

}  // namespace shoal
