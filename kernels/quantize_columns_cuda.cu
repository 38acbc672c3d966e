// kernels/quantize_columns_cuda.cu: tiles down columns, and 128 × 128 blocks: a CUDA block takes 128 × 128 numbers,
// reads them once and keeps them in registers, 64 a thread, until the scales are known.
#include "kernels/quantize_tile_cuda.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;
constexpr int kRowGroups = kThreads / kTileLanes;                     // a thread's rows are this far apart
constexpr int kRowsPerThread = static_cast<int>(kTile) / kRowGroups;  // and so many
constexpr int kWarps = kThreads / kWarp;

// A width, and the number of blocks of 128 × 128, fit an int; numbers of elements do not.

// Some of the segments, as a kernel's parameter. `tiles` of them begin at first_tile[0].
constexpr int kMostSegments = 128;
struct Segments {
  int count = 0, tiles = 0;
  int64_t offsets[kMostSegments + 1];
  int64_t first_tile[kMostSegments + 1];
};

// The rows of a tile.
struct RowRange {
  int64_t first = 0;
  int count = 0;
};
__device__ RowRange rows_of_tile(const Segments& segments, int64_t tile) {
  int segment = 0, end = segments.count;  // the last segment that begins at this tile or before it has rows
  while (end - segment > 1) {
    const int middle = (segment + end) / 2;
    if (segments.first_tile[middle] <= tile) {
      segment = middle;
    } else {
      end = middle;
    }
  }
  const int64_t first = segments.offsets[segment] + (tile - segments.first_tile[segment]) * kTile;
  const int64_t left = segments.offsets[segment + 1] - first;
  return {first, static_cast<int>(left < kTile ? left : kTile)};
}

__device__ int my_row(int i) { return static_cast<int>(threadIdx.x) / kTileLanes + i * kRowGroups; }

// This thread's runs of 128 rows: those of rows that are not there are zeros. No branch between the reads where all are
// whole.
template <bool kAligned, class Numbers>
__device__ __forceinline__ void load_rows(typename Numbers::Held (&held)[kRowsPerThread], const Numbers& numbers,
                                          const RowRange& rows, int column, int columns) {
  if (kAligned && columns > 0 && rows.count == kTile) {
    load_whole_runs(
        held, numbers, [&](int i) { return rows.first + my_row(i); }, column);
    return;
  }
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    held[i] = {};
    if (my_row(i) < rows.count && columns > 0) {
      held[i] = numbers.run(rows.first + my_row(i), column, kAligned ? kRunLength : columns);
    }
  }
}

// What was computed from these is not kept for later: it is cheap, and registers are not.
template <class Held>
__device__ __forceinline__ void compute_anew_from(Held (&held)[kRowsPerThread]) {
#if defined(__CUDA_ARCH__)
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    auto words = std::bit_cast<Words<sizeof(Held) / 4>>(held[i]);
#pragma unroll
    for (uint32_t& word : words.words) asm volatile("" : "+r"(word));
    held[i] = std::bit_cast<Held>(words);
  }
#else
  static_cast<void>(held);
#endif
}

// The largest of this thread's eight columns among its rows.
template <class Held>
__device__ __forceinline__ Sizes<Held> largest_of_rows(const Held (&held)[kRowsPerThread]) {
  Sizes<Held> largest = sizes_of(held[0]);
#pragma unroll
  for (int i = 1; i < kRowsPerThread; ++i) {
    add_sizes(largest, held[i]);
  }
  return largest;
}

struct Tiling {
  int width = 0;
  float min_amax = 0;
  TileScale kind = TileScale::kExact;
};

// Tiles along the rows of what a thread has in registers; a lane has one tile's scale to compute, not all.
template <bool kAligned, bool kCounted, class Held>
__device__ __forceinline__ void quantize_held_rows(const QuantizedTarget& out, Held (&held)[kRowsPerThread],
                                                   const RowRange& rows, int column, const Tiling& tiling,
                                                   ThreadCounts& counts) {
  constexpr int kLanes = kTileLanes / kRowsPerThread;
  const int lane = static_cast<int>(threadIdx.x) % kTileLanes;
  uint32_t largest[kRowsPerThread];
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) largest[i] = largest_of<Held>(sizes_of(held[i]));
  compute_anew_from(held);
  const uint32_t amax_bits = largest_of_lanes(largest);
  const TileFactors factors = tile_factors(amax_bits, tiling.min_amax, tiling.kind);
  const int scaled_row = my_row(lane / kLanes);
  if (lane % kLanes == 0 && scaled_row < rows.count) {
    *out.scales.at(rows.first + scaled_row, static_cast<unsigned>(column) / static_cast<unsigned>(kTile)) =
        factors.scale;
    if constexpr (kCounted) counts.add_scale(factors.scale, amax_bits);
  }
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    const float inverse = from_lanes_of<kRowsPerThread>(i, factors.inverse);
    const HeldCodes codes = encode_run<kCounted>(held[i], inverse, finite_of(inverse), counts);
    const int count = my_row(i) < rows.count ? tiling.width - column : 0;
    store_held<kAligned>(out.codes.at(rows.first + my_row(i), column), codes, count);
  }
}

// Blocks of four bytes a number, or of two numbers in the making, need more registers: fewer share a multiprocessor.
template <class Held>
constexpr int kBlocksTogether = std::is_same_v<Held, HeldF32> ? 2 : 3;

// Counted are the rows where kRowsToo, else the columns.
template <bool kAligned, bool kRowsToo, bool kCounted, class Numbers>
__global__ void __launch_bounds__(kThreads, kBlocksTogether<typename Numbers::Held>)
    quantize_column_tiles(QuantizedTarget by_rows, QuantizedTarget by_columns, Numbers numbers,
                          const __grid_constant__ Segments segments, Tiling tiling, ThreadCounts* partial) {
  using Held = typename Numbers::Held;
  __shared__ Sizes<Held> largest_of_warp[kWarps][kTileLanes];
  __shared__ Run<float> inverse_of[kTileLanes];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kTileLanes;
  const int across = static_cast<int>(num_tiles(tiling.width)), items = segments.tiles * across;
  ThreadCounts counts;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t tile = segments.first_tile[0] + item / across;
    const int first_column = item % across * static_cast<int>(kTile);
    const int column = first_column + lane * kRunLength, columns = tiling.width - column;
    const RowRange rows = rows_of_tile(segments, tile);
    Held held[kRowsPerThread];
    load_rows<kAligned>(held, numbers, rows, column, columns);
    Sizes<Held> largest = largest_of_rows(held);
#pragma unroll
    for (int k = 0; k < kSizeWords<Held>; ++k) {
      const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, largest[k], kTileLanes);
      largest[k] = larger_sizes<kIsPacked<Held>>(largest[k], other);
    }
    if (threadIdx.x % kWarp < kTileLanes) largest_of_warp[warp][lane] = largest;
    compute_anew_from(held);
    // In front of the barrier, where other warps may still read.
    if constexpr (kRowsToo) quantize_held_rows<kAligned, kCounted>(by_rows, held, rows, column, tiling, counts);
    compute_anew_from(held);
    __syncthreads();
    if (threadIdx.x < kTile) {
      const int run = threadIdx.x / kRunLength, k = threadIdx.x % kRunLength;
      uint32_t amax_bits = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) amax_bits = Max()(amax_bits, size_at<Held>(largest_of_warp[w][run], k));
      const TileFactors factors = tile_factors(amax_bits, tiling.min_amax, tiling.kind);
      inverse_of[run][k] = factors.inverse;
      if (first_column + static_cast<int>(threadIdx.x) < tiling.width) {
        *by_columns.scales.at(tile, first_column + threadIdx.x) = factors.scale;
        if constexpr (kCounted && !kRowsToo) counts.add_scale(factors.scale, amax_bits);
      }
    }
    __syncthreads();
    const Run<float> inverse = inverse_of[lane];
    const HeldCodes finite = finite_of(inverse);
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      const int count = my_row(i) < rows.count ? columns : 0;
      const HeldCodes codes = encode_run < kCounted && !kRowsToo > (held[i], inverse, finite, counts);
      store_held<kAligned>(by_columns.codes.at(rows.first + my_row(i), column), codes, count);
    }
  }
  if constexpr (kCounted) store_block_counts(partial, counts);
}

template <bool kAligned, class T>
__global__ void __launch_bounds__(kThreads, kBlocksTogether<HeldRun<T>>)
    quantize_weight_blocks(QuantizedTarget out, StoredNumbers<kAligned, T> weight, int64_t num_rows, int64_t width) {
  const int across = static_cast<int>(num_tiles(width)), items = static_cast<int>(num_tiles(num_rows)) * across;
  ThreadCounts not_counted;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const int block_row = item / across, block_column = item % across;
    const int64_t first = block_row * kTile;
    const RowRange rows{first, static_cast<int>(num_rows - first < kTile ? num_rows - first : kTile)};
    const int column = static_cast<int>(block_column * kTile + threadIdx.x % kTileLanes * kRunLength);
    const int columns = static_cast<int>(width) - column;
    HeldRun<T> held[kRowsPerThread];
    load_rows<kAligned>(held, weight, rows, column, columns);
    const uint32_t amax_bits = block_reduce(largest_of<HeldRun<T>>(largest_of_rows(held)), Max());
    const TileFactors factors = block_factors(amax_bits);
    compute_anew_from(held);
    if (threadIdx.x == 0) *out.scales.at(block_row, block_column) = factors.scale;
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      const int count = my_row(i) < rows.count ? columns : 0;
      const auto codes = encode_run<false>(held[i], factors.inverse, finite_of(factors.inverse), not_counted);
      store_held<kAligned>(out.codes.at(rows.first + my_row(i), column), codes, count);
    }
  }
}

// Calls f(segments) for all segments that have tiles, as many at a time as fit a kernel's parameters.
template <class F>
void for_each_group(const SegmentsView& all, F&& f) {
  const size_t count = all.offsets.size() - 1;
  for (size_t begin = 0; begin < count; begin += kMostSegments) {
    const size_t left = count - begin, here = left < kMostSegments ? left : kMostSegments;
    Segments segments{};
    segments.count = static_cast<int>(here);
    segments.tiles = static_cast<int>(all.first_tile[begin + here] - all.first_tile[begin]);
    for (size_t i = 0; i <= here; ++i) {
      segments.offsets[i] = all.offsets[begin + i];
      segments.first_tile[i] = all.first_tile[begin + i];
    }
    if (segments.tiles > 0) f(segments);
  }
}

template <bool kAligned, bool kRowsToo, class Numbers>
void quantize_from(const char* op, const QuantizedView& rows, const QuantizedView& columns, const SegmentsView& all,
                   const Numbers& numbers, const QuantizeOptionsView& options, CudaQueue queue) {
  const Tiling tiling{static_cast<int>(columns.codes.width), options.min_amax, options.scale};
  const bool is_counted = options.counts.defined();
  const auto kernel = is_counted ? quantize_column_tiles<kAligned, kRowsToo, true, Numbers>
                                 : quantize_column_tiles<kAligned, kRowsToo, false, Numbers>;
  for_each_group(all, [&](const Segments& segments) {
    const Grid grid = quantize_grid(segments.tiles * num_tiles(tiling.width), kThreads, is_counted);
    launch_kernel(op, kernel, grid, queue, target_of(rows), target_of(columns), numbers, segments, tiling,
                  partial_of(options));
    const int64_t num_rows = segments.offsets[segments.count] - segments.offsets[0];
    add_quantize_counts(op, options, num_rows * tiling.width, grid, queue);
  });
}

template <bool kAligned, class T>
void quantize_stored(const QuantizedView& rows, const QuantizedView& columns, const SegmentsView& segments,
                     const TensorView& x, const QuantizeOptionsView& options, CudaQueue queue) {
  const StoredNumbers<kAligned, T> numbers{rows_of<const T>(x)};
  if (rows.codes.defined()) {
    quantize_from<kAligned, true>("quantize.rows_and_columns", rows, columns, segments, numbers, options, queue);
  } else {
    quantize_from<kAligned, false>("quantize.columns", rows, columns, segments, numbers, options, queue);
  }
}

template <bool kAligned, class T>
void quantize_stored_blocks(const QuantizedView& out, const TensorView& weight, CudaQueue queue) {
  const Grid grid = quantize_grid(num_tiles(weight.rows) * num_tiles(weight.width), kThreads, false);
  launch_kernel("quantize.blocks", quantize_weight_blocks<kAligned, T>, grid, queue, target_of(out),
                StoredNumbers<kAligned, T>{rows_of<const T>(weight)}, weight.rows, weight.width);
}

}  // namespace

void quantize_columns_cuda(const QuantizedView& rows, const QuantizedView& columns, const SegmentsView& segments,
                           const TensorView& x, const QuantizeOptionsView& options, CudaQueue queue) {
  auto quantize = x.dtype == DType::kBF16 ? quantize_stored<false, bfloat16> : quantize_stored<false, float>;
  if (are_whole_runs(x.width, rows.codes, columns.codes, x)) {
    quantize = x.dtype == DType::kBF16 ? quantize_stored<true, bfloat16> : quantize_stored<true, float>;
  }
  quantize(rows, columns, segments, x, options, queue);
}

void requantize_columns_cuda(const QuantizedView& out, const SegmentsView& segments, const QuantizedView& x,
                             const QuantizeOptionsView& options, CudaQueue queue) {
  const auto with = [&]<bool kAligned>() {
    const DecodedNumbers<kAligned> numbers{rows_of<const float8_e4m3>(x.codes), rows_of<const float>(x.scales)};
    quantize_from<kAligned, false>("quantize.requantize_columns", {}, out, segments, numbers, options, queue);
  };
  if (are_whole_runs(out.codes.width, out.codes, x.codes)) return with.template operator()<true>();
  with.template operator()<false>();
}

void swiglu_quantize_columns_cuda(const QuantizedView& out, const SegmentsView& segments, const TensorView& gate_up,
                                  const TensorView& weights, const QuantizeOptionsView& options, CudaQueue queue) {
  dispatch_swiglu(out, gate_up, weights, [&]<class Aligned>(const auto& numbers, Aligned) {
    quantize_from<Aligned::value, false>("quantize.swiglu_columns", {}, out, segments, numbers, options, queue);
  });
}

void quantize_blocks_cuda(const QuantizedView& out, const TensorView& weight, CudaQueue queue) {
  auto quantize =
      weight.dtype == DType::kBF16 ? quantize_stored_blocks<false, bfloat16> : quantize_stored_blocks<false, float>;
  if (are_whole_runs(weight.width, out.codes, weight)) {
    quantize =
        weight.dtype == DType::kBF16 ? quantize_stored_blocks<true, bfloat16> : quantize_stored_blocks<true, float>;
  }
  quantize(out, weight, queue);
}

}  // namespace shoal
