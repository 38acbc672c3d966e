// kernels/pack_quantized_cuda.cu: a block for each row of codes; a thread for each scale.
#include "kernels/pack_quantized_cuda.h"
#include "kernels/quantize_source_cuda.h"

namespace shoal {

namespace {

// Biased exponents fit a byte; a number that has more than an exponent, or a sign, does not.
__device__ uint8_t exponent_of(float scale) {
  const uint32_t bits = std::bit_cast<uint32_t>(scale);
  return (bits & 0x807FFFFFu) == 0 ? static_cast<uint8_t>(bits >> 23) : uint8_t{255};
}

constexpr int kThreadsPerRow = 256;
constexpr int kRuns = 4;  // that a thread reads before it writes

template <bool kAligned>
__global__ void __launch_bounds__(kThreadsPerRow)
    pack_rows(RowsOf<uint8_t> packed, RowsOf<const uint8_t> codes, RowsOf<const float> scales, int64_t width) {
  const int64_t row = blockIdx.x, tiles = num_tiles(width);
  const int64_t apart = int64_t{blockDim.x} * kRunLength;
  for (int64_t first = int64_t{threadIdx.x} * kRunLength; first < width; first += kRuns * apart) {
    Run<uint8_t> runs[kRuns] = {};
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      const int64_t column = first + i * apart;
      if (column < width) load_run<kAligned>(runs[i], codes.at(row, column), width - column);
    }
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      const int64_t column = first + i * apart;
      if (column < width) store_run<kAligned>(packed.at(row, column), runs[i], width - column);
    }
  }
  for (int64_t tile = threadIdx.x; tile < tiles; tile += blockDim.x) {
    *packed.at(row, width + tile) = exponent_of(*scales.at(row, tile));
  }
}

__global__ void unpack_scales(RowsOf<float> scales, RowsOf<const uint8_t> packed, int64_t rows, int64_t tiles,
                              int64_t width) {
  const int64_t item = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, row = item / tiles, tile = item - row * tiles;
  if (row >= rows) return;
  const uint32_t exponent = *packed.at(row, width + tile);
  *scales.at(row, tile) = std::bit_cast<float>(exponent == 255 ? 0x7FC00000u : exponent << 23);
}

}  // namespace

void pack_quantized_cuda(const TensorView& packed, const TensorView& codes, const TensorView& scales, CudaQueue queue) {
  const Grid grid{dim3(static_cast<unsigned>(codes.rows)),
                  dim3(static_cast<unsigned>(threads_for_row(codes.width, kThreadsPerRow)))};
  launch_kernel("quantize.pack", have_whole_runs(packed, codes) ? pack_rows<true> : pack_rows<false>, grid, queue,
                rows_of<uint8_t>(packed), rows_of<const uint8_t>(codes), rows_of<const float>(scales), codes.width);
}

void unpack_scales_cuda(const TensorView& scales, const TensorView& packed, CudaQueue queue) {
  constexpr int kThreads = 256;
  const Grid grid{dim3(static_cast<unsigned>(ceil_div(scales.rows * scales.width, kThreads))), dim3(kThreads)};
  launch_kernel("quantize.unpack", unpack_scales, grid, queue, rows_of<float>(scales), rows_of<const uint8_t>(packed),
                scales.rows, scales.width, packed.width - scales.width);
}

}  // namespace shoal
