// kernels/quantize_rows_cuda.cu: tiles along rows: sixteen lanes a tile, which is read once and kept in registers.
#include "kernels/quantize_tile_cuda.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kTilesPerBlock = kThreads / kTileLanes;

struct RowTiles {
  int64_t rows = 0, width = 0;

  __host__ __device__ int64_t across() const { return num_tiles(width); }
  __host__ __device__ int64_t count() const { return rows * across(); }
};
Grid grid_of(const RowTiles& tiles) { return quantize_grid(ceil_div(tiles.count(), kTilesPerBlock), kThreads); }

// Calls f(row, tile, this lane's first column, how many from there on are the row's) for this thread's tiles. All
// threads of a block go through it together: behind the last tile there are none.
template <class F>
__device__ __forceinline__ void for_each_row_tile(const RowTiles& tiles, F&& f) {
  const int64_t across = tiles.across(), count = tiles.count();
  const int64_t mine = threadIdx.x / kTileLanes, lane = threadIdx.x % kTileLanes;
  for (int64_t first = int64_t{blockIdx.x} * kTilesPerBlock; first < count; first += gridDim.x * kTilesPerBlock) {
    const int64_t item = first + mine, row = item / across, tile = item - row * across;
    const int64_t column = tile * kTile + lane * kRunLength;
    const int64_t left = item < count ? tiles.width - column : 0;
    f(row, tile, column, left);
  }
}

// Does this lane write what its tile has one of?
__device__ bool is_first_lane(int64_t count) { return threadIdx.x % kTileLanes == 0 && count > 0; }

template <bool kAligned, class Numbers>
__global__ void quantize_row_tiles(QuantizedTarget out, Numbers numbers, RowTiles tiles, float min_amax, TileScale kind,
                                   ThreadCounts* partial) {
  using T = typename Numbers::Number;
  ThreadCounts counts;
  for_each_row_tile(tiles, [&](int64_t row, int64_t tile, int64_t column, int64_t count) {
    Run<T> values = {};
    if (count > 0) values = numbers.run(row, column, count);
    const uint32_t amax_bits = tile_amax_bits(values);
    const TileFactors factors = tile_factors(amax_bits, min_amax, kind);
    const Run<float8_e4m3> codes = encode_run(values, eight_of(factors.inverse), count, counts, partial != nullptr);
    store_run<kAligned>(out.codes.at(row, column), codes, count);
    if (!is_first_lane(count)) return;
    *out.scales.at(row, tile) = factors.scale;
    counts.add_scale(factors.scale, amax_bits);
  });
  if (partial != nullptr) store_block_counts(partial, counts);
}

template <bool kAligned, class T>
__global__ void dequantize_row_tiles(RowsOf<T> out, DecodedNumbers<kAligned> numbers, RowTiles tiles) {
  for_each_row_tile(tiles, [&](int64_t row, int64_t, int64_t column, int64_t count) {
    if (count <= 0) return;
    const Run<float> values = numbers.run(row, column, count);
    Run<T> rounded;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) rounded[i] = store<T>(values[i]);
    store_run<kAligned>(out.at(row, column), rounded, count);
  });
}

template <bool kAligned>
__global__ void gather_row_tiles(QuantizedTarget out, DecodedNumbers<kAligned> x, int64_t x_rows, const int32_t* index,
                                 RowTiles tiles) {
  for_each_row_tile(tiles, [&](int64_t row, int64_t tile, int64_t column, int64_t count) {
    if (count <= 0) return;
    const int64_t source = index[row];
    const bool is_there = source >= 0 && source < x_rows;
    Run<float8_e4m3> codes = {};
    if (is_there) load_run<kAligned>(codes, x.codes.at(source, column), count);
    store_run<kAligned>(out.codes.at(row, column), codes, count);
    if (!is_first_lane(count)) return;
    *out.scales.at(row, tile) = is_there ? *x.scales.at(source, tile) : std::numeric_limits<float>::quiet_NaN();
  });
}

// One block adds up the others' in a fixed order; the table's own order is the queue's.
__global__ void add_counts(double* counts, const ThreadCounts* partial, int64_t blocks, int64_t values) {
  long long saturated = 0, flushed = 0, not_finite = 0;
  ThreadCounts scales;
  for (int64_t block = threadIdx.x; block < blocks; block += blockDim.x) {
    const ThreadCounts theirs = partial[block];
    saturated += theirs.saturated;
    flushed += theirs.flushed;
    not_finite += theirs.not_finite;
    scales.min_scale = Min()(scales.min_scale, theirs.min_scale);
    scales.max_scale = Max()(scales.max_scale, theirs.max_scale);
  }
  saturated = block_reduce(saturated);
  flushed = block_reduce(flushed);
  not_finite = block_reduce(not_finite);
  const double min_scale = block_reduce(scales.min_scale, Min()), max_scale = block_reduce(scales.max_scale, Max());
  if (threadIdx.x != 0) return;
  counts[kValues] += static_cast<double>(values);
  counts[kSaturated] += static_cast<double>(saturated);
  counts[kFlushed] += static_cast<double>(flushed);
  counts[kNotFinite] += static_cast<double>(not_finite);
  counts[kMinScale] = min_scale < counts[kMinScale] ? min_scale : counts[kMinScale];
  counts[kMaxScale] = max_scale > counts[kMaxScale] ? max_scale : counts[kMaxScale];
}

template <bool kAligned, class Numbers>
void quantize_from(const char* op, const QuantizedView& out, const Numbers& numbers, const QuantizeOptionsView& options,
                   CudaQueue queue) {
  const RowTiles tiles{out.codes.rows, out.codes.width};
  const Grid grid = grid_of(tiles);
  launch_kernel(op, quantize_row_tiles<kAligned, Numbers>, grid, queue, target_of(out), numbers, tiles,
                options.min_amax, options.scale, partial_of(options));
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
  launch_kernel(op, add_counts, Grid{dim3(1), dim3(kThreads)}, queue, options.counts.as<double>(), partial_of(options),
                int64_t{grid.blocks.x}, values);
}

void quantize_rows_cuda(const QuantizedView& out, const TensorView& x, const TensorView& index,
                        const QuantizeOptionsView& options, CudaQueue queue) {
  const bool aligned = have_whole_runs(out.codes, x);
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
    launch_kernel("quantize.dequantize_rows", dequantize_row_tiles<kAligned, T>, grid_of(tiles), queue, rows_of<T>(out),
                  numbers, tiles);
  };
  const bool aligned = have_whole_runs(out, x.codes), is_bf16 = out.dtype == DType::kBF16;
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
    launch_kernel("quantize.gather_rows", gather_row_tiles<kAligned>, grid_of(tiles), queue, target_of(out), from,
                  x.codes.rows, index.as<int32_t>(), tiles);
  };
  if (have_whole_runs(out.codes, x.codes)) return with.template operator()<true>();
  with.template operator()<false>();
}

}  // namespace shoal
