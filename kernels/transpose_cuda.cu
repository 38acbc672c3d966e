// kernels/transpose_cuda.cu: a block turns one tile over in shared memory, so that both sides are read and written in
// long runs.
#include "kernels/cuda_block.h"
#include "kernels/transpose_cuda.h"

namespace shoal {

namespace {

constexpr int kTile = 128;           // codes, either way
constexpr int kRun = 16;             // codes of one access
constexpr int kRuns = kTile / kRun;  // of a tile's row
constexpr int kWords = kTile / 4;    // of a tile's row
constexpr int kThreads = 256;

struct alignas(16) Codes {
  uint32_t words[4];  // 4 codes each, the first in the lowest byte
};

// Codes [row, row + 1) x [column, column + 16) of the matrix, zeros beyond its edges.
template <bool kAligned>
__device__ Codes load_codes(const RowsOf<const uint8_t>& from, int64_t rows, int64_t width, int64_t row,
                            int64_t column) {
  Codes codes{};
  if (row >= rows || column >= width) return codes;
  const uint8_t* const at = from.at(row, column);
  if (kAligned && column + kRun <= width) {
    return *reinterpret_cast<const Codes*>(at);
  }
  for (int i = 0; i < kRun && column + i < width; ++i) codes.words[i / 4] |= uint32_t{at[i]} << (8 * (i % 4));
  return codes;
}

// A tile lies in shared memory by rows of 32 words. A word's place is moved by its row, so that the 8 runs of 16 rows
// that a warp gathers come from different banks.
__device__ inline int place_of(int row, int word) { return row * kWords + (word ^ ((row / kRun) * 4)); }

template <bool kAligned>
__global__ void __launch_bounds__(kThreads)
    transpose_tiles(uint8_t* to, int64_t padded_rows, RowsOf<const uint8_t> from, int64_t rows, int64_t width) {
  __shared__ __align__(16) uint32_t tile[kTile * kWords];
  const int64_t first_row = int64_t{blockIdx.x} * kTile, first_column = int64_t{blockIdx.y} * kTile;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kRuns; i += kThreads) {
    const int row = i / kRuns, run = i % kRuns;
    *reinterpret_cast<Codes*>(&tile[place_of(row, run * 4)]) =
        load_codes<kAligned>(from, rows, width, first_row + row, first_column + run * kRun);
  }
  __syncthreads();
  // A thread takes 4 columns (a word) of 16 rows, and writes 4 runs.
  for (int i = static_cast<int>(threadIdx.x); i < kWords * kRuns; i += kThreads) {
    const int word = i / kRuns, run = i % kRuns;
    Codes turned[4];
#pragma unroll
    for (int quad = 0; quad < 4; ++quad) {
      uint32_t in[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) in[j] = tile[place_of(run * kRun + quad * 4 + j, word)];
#pragma unroll
      for (int column = 0; column < 4; ++column) {
        uint32_t out = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) out |= (in[j] >> (8 * column) & 0xFFu) << (8 * j);
        turned[column].words[quad] = out;
      }
    }
    const int64_t row = first_row + run * kRun;
    if (row >= padded_rows) continue;
#pragma unroll
    for (int column = 0; column < 4; ++column) {
      const int64_t c = first_column + word * 4 + column;
      if (c < width) *reinterpret_cast<Codes*>(to + c * padded_rows + row) = turned[column];
    }
  }
}

constexpr int kScaleTile = 32;

__global__ void __launch_bounds__(kScaleTile* kScaleTile)
    transpose_floats(float* to, int64_t to_stride, RowsOf<const float> from, int64_t rows, int64_t width) {
  __shared__ float tile[kScaleTile][kScaleTile + 1];
  const int64_t first_row = int64_t{blockIdx.x} * kScaleTile, first_column = int64_t{blockIdx.y} * kScaleTile;
  const int x = static_cast<int>(threadIdx.x) % kScaleTile, y = static_cast<int>(threadIdx.x) / kScaleTile;
  if (first_row + y < rows && first_column + x < width) tile[y][x] = *from.at(first_row + y, first_column + x);
  __syncthreads();
  if (first_column + y < width && first_row + x < rows) {
    to[(first_column + y) * to_stride + first_row + x] = tile[x][y];
  }
}

}  // namespace

void transpose_codes_cuda(std::byte* to, int64_t padded_rows, const TensorView& from, CudaQueue queue) {
  const Grid grid{
      dim3(static_cast<unsigned>(ceil_div(padded_rows, kTile)), static_cast<unsigned>(ceil_div(from.width, kTile))),
      dim3(kThreads)};
  const bool aligned = reinterpret_cast<uintptr_t>(from.data) % 16 == 0 && from.row_stride % 16 == 0;
  launch_kernel("transpose_codes", aligned ? transpose_tiles<true> : transpose_tiles<false>, grid, queue,
                reinterpret_cast<uint8_t*>(to), padded_rows,
                RowsOf<const uint8_t>{static_cast<const uint8_t*>(from.data), from.row_stride}, from.rows, from.width);
}

void transpose_scales_cuda(float* to, int64_t to_stride, const TensorView& from, CudaQueue queue) {
  const Grid grid{dim3(static_cast<unsigned>(ceil_div(from.rows, kScaleTile)),
                       static_cast<unsigned>(ceil_div(from.width, kScaleTile))),
                  dim3(kScaleTile * kScaleTile)};
  launch_kernel("transpose_scales", transpose_floats, grid, queue, to, to_stride,
                RowsOf<const float>{from.as<const float>(), from.row_stride}, from.rows, from.width);
}

}  // namespace shoal
