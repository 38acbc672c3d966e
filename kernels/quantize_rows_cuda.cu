// kernels/quantize_rows_cuda.cu: tiles along rows: sixteen lanes a tile, which is read once and kept in registers.
#include "kernels/quantize_tile_cuda.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;
constexpr unsigned kGroupsPerBlock = kThreads / kTileLanes;
constexpr int kTiles = 4;  // sixteen lanes take so many at a time, below each other: reads that do not wait for another

// A number of tiles fits 32 bits, of which a GPU divides faster; numbers of elements do not.
struct RowTiles {
  int64_t rows = 0, width = 0;

  __host__ __device__ uint32_t across() const { return static_cast<uint32_t>(num_tiles(width)); }
  __host__ __device__ uint32_t groups() const { return static_cast<uint32_t>((rows + kTiles - 1) / kTiles) * across(); }
};
Grid grid_of(const RowTiles& tiles, bool is_counted) {
  return quantize_grid(ceil_div(int64_t{tiles.groups()}, kGroupsPerBlock), kThreads, is_counted);
}

// A thread's runs of kTiles tiles: `count` numbers from `column` on, of `rows` rows. Nothing is left behind the last.
struct Part {
  int64_t row = 0;
  uint32_t tile = 0;
  int64_t column = 0;
  int64_t count = 0;
  int rows = 0;

  __device__ __forceinline__ int64_t count_of(int i) const { return i < rows ? count : 0; }
};

// Calls f(part) for this thread's parts. All threads of a block go through it together.
template <class F>
__device__ __forceinline__ void for_each_part(const RowTiles& tiles, F&& f) {
  const uint32_t across = tiles.across(), groups = tiles.groups();
  const uint32_t mine = threadIdx.x / kTileLanes, lane = threadIdx.x % kTileLanes;
  for (uint32_t first = blockIdx.x * kGroupsPerBlock; first < groups; first += gridDim.x * kGroupsPerBlock) {
    const uint32_t item = first + mine, row_group = item / across;
    Part part;
    part.tile = item - row_group * across;
    part.row = int64_t{row_group} * kTiles;
    part.column = int64_t{part.tile} * kTile + lane * kRunLength;
    part.count = tiles.width - part.column;
    const int64_t rows = item < groups ? tiles.rows - part.row : 0;
    part.rows = static_cast<int>(rows < kTiles ? rows : kTiles);
    f(part);
  }
}

// kTiles runs of `numbers`: no branch between the reads where all are whole.
template <bool kAligned, class Numbers>
__device__ __forceinline__ void load_part(typename Numbers::Held (&held)[kTiles], const Numbers& numbers,
                                          const Part& part) {
  if (kAligned && part.count > 0 && part.rows == kTiles) {
    load_whole_runs(
        held, numbers, [&](int i) { return part.row + i; }, part.column);
    return;
  }
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    held[i] = {};
    if (part.count_of(i) > 0) held[i] = numbers.run(part.row + i, part.column, kAligned ? kRunLength : part.count);
  }
}

template <bool kAligned, bool kCounted, class Numbers>
__global__ void __launch_bounds__(kThreads) quantize_row_tiles(QuantizedTarget out, Numbers numbers, RowTiles tiles,
                                                               float min_amax, TileScale kind, ThreadCounts* partial) {
  using Held = typename Numbers::Held;
  ThreadCounts counts;
  for_each_part(tiles, [&](const Part& part) {
    Held held[kTiles];
    load_part<kAligned>(held, numbers, part);
    uint32_t largest[kTiles];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) largest[i] = largest_of<Held>(sizes_of(held[i]));
    // A lane has one tile's scale to compute, not all.
    constexpr int kLanes = kTileLanes / kTiles;
    const int lane = static_cast<int>(threadIdx.x) % kTileLanes;
    const uint32_t amax_bits = largest_of_lanes(largest);
    const TileFactors factors = tile_factors(amax_bits, min_amax, kind);
    if (lane % kLanes == 0 && lane / kLanes < part.rows) {
      *out.scales.at(part.row + lane / kLanes, part.tile) = factors.scale;
      if constexpr (kCounted) counts.add_scale(factors.scale, amax_bits);
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const float inverse = from_lanes_of<kTiles>(i, factors.inverse);
      const HeldCodes codes = encode_run<kCounted>(held[i], inverse, finite_of(inverse), counts);
      store_held<kAligned>(out.codes.at(part.row + i, part.column), codes, part.count_of(i));
    }
  });
  if constexpr (kCounted) store_block_counts(partial, counts);
}

template <bool kAligned, class T>
__global__ void __launch_bounds__(kThreads)
    dequantize_row_tiles(RowsOf<T> out, DecodedNumbers<kAligned> numbers, RowTiles tiles) {
  for_each_part(tiles, [&](const Part& part) {
    ScaledCodes held[kTiles];
    load_part<kAligned>(held, numbers, part);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const auto rounded = std::bit_cast<Run<T>>(round_run<T>(numbers_of(held[i])));
      store_run<kAligned>(out.at(part.row + i, part.column), rounded, part.count_of(i));
    }
  });
}

// Row i is row index[i] of the codes.
template <bool kAligned>
struct GatheredCodes {
  using Held = ScaledCodes;
  DecodedNumbers<kAligned> x;
  const int32_t* index = nullptr;
  int64_t rows = 0;  // of x

  __device__ __forceinline__ Held run(int64_t row, int64_t column, int64_t count) const {
    const int64_t source = index[row];
    if (source >= 0 && source < rows) return x.run(source, column, count);
    return {{}, std::numeric_limits<float>::quiet_NaN()};
  }
};

template <bool kAligned>
__global__ void __launch_bounds__(kThreads)
    gather_row_tiles(QuantizedTarget out, GatheredCodes<kAligned> numbers, RowTiles tiles) {
  for_each_part(tiles, [&](const Part& part) {
    ScaledCodes held[kTiles];
    load_part<kAligned>(held, numbers, part);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      store_held<kAligned>(out.codes.at(part.row + i, part.column), held[i].codes, part.count_of(i));
      if (threadIdx.x % kTileLanes == 0 && i < part.rows) *out.scales.at(part.row + i, part.tile) = held[i].scale;
    }
  });
}

// What one thread of add_counts has seen of the blocks' counts.
struct CountSums {
  long long saturated = 0, flushed = 0, not_finite = 0;
  float min_scale = std::numeric_limits<float>::infinity(), max_scale = 0;

  __device__ void add(long long more_saturated, long long more_flushed, long long more_not_finite, float min,
                      float max) {
    saturated += more_saturated;
    flushed += more_flushed;
    not_finite += more_not_finite;
    min_scale = Min()(min_scale, min);
    max_scale = Max()(max_scale, max);
  }
  __device__ void reduce_over_warp() {
    saturated = warp_reduce(saturated);
    flushed = warp_reduce(flushed);
    not_finite = warp_reduce(not_finite);
    min_scale = warp_reduce(min_scale, Min());
    max_scale = warp_reduce(max_scale, Max());
  }
};

// One block adds up the others' in a fixed order; the table's own order is the queue's. Every count that is added up so
// waits for this kernel: all its reads are on their way at once, and it has one barrier.
constexpr int kCountThreads = 1024;
constexpr int kPartsOfThread = static_cast<int>(kMostQuantizeBlocks) / kCountThreads;
static_assert(kPartsOfThread * kCountThreads == kMostQuantizeBlocks);

__global__ void __launch_bounds__(kCountThreads)
    add_counts(double* counts, const ThreadCounts* partial, int blocks, int64_t values) {
  __shared__ CountSums of_warp[kWarp];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  double before[kNumQuantizeCounts];
  if (thread == 0) {
#pragma unroll
    for (int i = 0; i < kNumQuantizeCounts; ++i) before[i] = counts[i];
  }
  ThreadCounts parts[kPartsOfThread];
#pragma unroll
  for (int i = 0; i < kPartsOfThread; ++i) {
    if (i * kCountThreads + thread < blocks) parts[i] = partial[i * kCountThreads + thread];
  }
  CountSums sum;
#pragma unroll
  for (const ThreadCounts& part : parts) {
    sum.add(part.saturated, part.flushed, part.not_finite, part.min_scale, part.max_scale);
  }
  sum.reduce_over_warp();
  if (lane == 0) of_warp[thread / kWarp] = sum;
  __syncthreads();
  if (thread >= kWarp) return;
  sum = of_warp[lane];
  sum.reduce_over_warp();
  if (thread != 0) return;
  counts[kValues] = before[kValues] + static_cast<double>(values);
  counts[kSaturated] = before[kSaturated] + static_cast<double>(sum.saturated);
  counts[kFlushed] = before[kFlushed] + static_cast<double>(sum.flushed);
  counts[kNotFinite] = before[kNotFinite] + static_cast<double>(sum.not_finite);
  counts[kMinScale] = Min()(static_cast<double>(sum.min_scale), before[kMinScale]);
  counts[kMaxScale] = Max()(static_cast<double>(sum.max_scale), before[kMaxScale]);
}

template <bool kAligned, class Numbers>
void quantize_from(const char* op, const QuantizedView& out, const Numbers& numbers, const QuantizeOptionsView& options,
                   CudaQueue queue) {
  const RowTiles tiles{out.codes.rows, out.codes.width};
  const bool is_counted = options.counts.defined();
  const Grid grid = grid_of(tiles, is_counted);
  launch_kernel(op,
                is_counted ? quantize_row_tiles<kAligned, true, Numbers> : quantize_row_tiles<kAligned, false, Numbers>,
                grid, queue, target_of(out), numbers, tiles, options.min_amax, options.scale, partial_of(options));
  add_quantize_counts(op, options, tiles.rows * tiles.width, grid, queue);
}

template <bool kAligned, class T>
void quantize_stored(const QuantizedView& out, const TensorView& x, const TensorView& index,
                     const QuantizeOptionsView& options, CudaQueue queue) {
  const RowsOf<const T> from = rows_of<const T>(x);
  if (index.defined()) {
    const GatheredNumbers<kAligned, T> numbers{from, index.as<int32_t>(), x.rows};
    quantize_from<kAligned>("quantize.gathered_rows", out, numbers, options, queue);
  } else {
    quantize_from<kAligned>("quantize.rows", out, StoredNumbers<kAligned, T>{from}, options, queue);
  }
}

}  // namespace

void add_quantize_counts(const char* op, const QuantizeOptionsView& options, int64_t values, const Grid& grid,
                         CudaQueue queue) {
  if (!options.counts.defined() || values == 0) return;
  launch_kernel(op, add_counts, Grid{dim3(1), dim3(kCountThreads)}, queue, options.counts.as<double>(),
                partial_of(options), static_cast<int>(grid.blocks.x), values);
}

void quantize_rows_cuda(const QuantizedView& out, const TensorView& x, const TensorView& index,
                        const QuantizeOptionsView& options, CudaQueue queue) {
  const bool aligned = are_whole_runs(x.width, out.codes, x);
  if (x.dtype == DType::kBF16) {
    const auto quantize = aligned ? quantize_stored<true, bfloat16> : quantize_stored<false, bfloat16>;
    quantize(out, x, index, options, queue);
  } else {
    const auto quantize = aligned ? quantize_stored<true, float> : quantize_stored<false, float>;
    quantize(out, x, index, options, queue);
  }
}

void swiglu_quantize_rows_cuda(const QuantizedView& out, const TensorView& gate_up, const TensorView& weights,
                               const QuantizeOptionsView& options, CudaQueue queue) {
  dispatch_swiglu(out, gate_up, weights, [&]<class Aligned>(const auto& numbers, Aligned) {
    quantize_from<Aligned::value>("quantize.swiglu_rows", out, numbers, options, queue);
  });
}

void dequantize_rows_cuda(const TensorView& out, const QuantizedView& x, CudaQueue queue) {
  const RowTiles tiles{out.rows, out.width};
  const auto with = [&]<bool kAligned, class T>() {
    const DecodedNumbers<kAligned> numbers{rows_of<const float8_e4m3>(x.codes), rows_of<const float>(x.scales)};
    launch_kernel("quantize.dequantize_rows", dequantize_row_tiles<kAligned, T>, grid_of(tiles, false), queue,
                  rows_of<T>(out), numbers, tiles);
  };
  const bool aligned = are_whole_runs(out.width, out, x.codes), is_bf16 = out.dtype == DType::kBF16;
  if (aligned && is_bf16) return with.template operator()<true, bfloat16>();
  if (aligned) return with.template operator()<true, float>();
  if (is_bf16) return with.template operator()<false, bfloat16>();
  with.template operator()<false, float>();
}

void gather_quantized_rows_cuda(const QuantizedView& out, const QuantizedView& x, const TensorView& index,
                                CudaQueue queue) {
  const RowTiles tiles{out.codes.rows, out.codes.width};
  const auto with = [&]<bool kAligned>() {
    const DecodedNumbers<kAligned> from{rows_of<const float8_e4m3>(x.codes), rows_of<const float>(x.scales)};
    launch_kernel("quantize.gather_rows", gather_row_tiles<kAligned>, grid_of(tiles, false), queue, target_of(out),
                  GatheredCodes<kAligned>{from, index.as<int32_t>(), x.codes.rows}, tiles);
  };
  if (are_whole_runs(out.codes.width, out.codes, x.codes)) return with.template operator()<true>();
  with.template operator()<false>();
}

}  // namespace shoal
