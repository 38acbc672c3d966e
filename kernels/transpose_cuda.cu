// kernels/transpose_cuda.cu: a block turns one tile of one matrix, by way of shared memory.
#include "kernels/cuda_launch.h"
#include "kernels/transpose_cuda.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;

// What a launch works on, as parameters of the kernel; matrix i has the blocks [first_block[i], first_block[i + 1]).
constexpr int kMostMatrices = 80;
struct Matrices {
  Transposition all[kMostMatrices];
  int32_t first_block[kMostMatrices + 1];
};
static_assert(sizeof(Matrices) < 4000);

// The matrix that a block works on, and its tile there: tiles across `width` are neighbours.
struct BlockTile {
  int matrix = 0;
  int first_row = 0, first_column = 0;
};
template <int kSide>
__device__ BlockTile tile_of_block(const Matrices& matrices) {
  const int block = static_cast<int>(blockIdx.x);
  BlockTile tile;
  while (block >= matrices.first_block[tile.matrix + 1]) ++tile.matrix;
  const int tiles_across = (matrices.all[tile.matrix].width + kSide - 1) / kSide;
  const int i = block - matrices.first_block[tile.matrix];
  tile.first_row = i / tiles_across * kSide;
  tile.first_column = i % tiles_across * kSide;
  return tile;
}

constexpr int kWordSide = 32;

__global__ void __launch_bounds__(kThreads) transpose_words(const Matrices matrices) {
  __shared__ uint32_t words[kWordSide][kWordSide + 1];
  const BlockTile tile = tile_of_block<kWordSide>(matrices);
  const Transposition& m = matrices.all[tile.matrix];
  const auto* from = static_cast<const uint32_t*>(m.from);
  auto* to = static_cast<uint32_t*>(m.to);
  const int lane = static_cast<int>(threadIdx.x) % kWordSide, first = static_cast<int>(threadIdx.x) / kWordSide;
  for (int i = first; i < kWordSide; i += kThreads / kWordSide) {
    const int row = tile.first_row + i, column = tile.first_column + lane;
    const bool inside = row < m.rows && column < m.width;
    words[i][lane] = inside ? from[int64_t{row} * m.from_stride + column] : 0;
  }
  __syncthreads();
  for (int i = first; i < kWordSide; i += kThreads / kWordSide) {
    const int row = tile.first_column + i, column = tile.first_row + lane;
    if (row < m.width && column < m.to_stride) to[int64_t{row} * m.to_stride + column] = words[lane][i];
  }
}

constexpr int kByteSide = 128;
constexpr int kWordBytes = 4;
constexpr int kRowWords = kByteSide / kWordBytes;
static_assert(kRowWords == kWarp);

__device__ bool is_word_aligned(const Transposition& m) {
  const auto bits = reinterpret_cast<uintptr_t>(m.from) | reinterpret_cast<uintptr_t>(m.to);
  return (bits | static_cast<unsigned>(m.from_stride | m.to_stride | m.width)) % kWordBytes == 0;
}

__device__ uint32_t load_word(const Transposition& m, int row, int column, bool aligned) {
  if (row >= m.rows || column >= m.width) return 0;
  const uint8_t* from = static_cast<const uint8_t*>(m.from) + int64_t{row} * m.from_stride + column;
  if (aligned) return *reinterpret_cast<const uint32_t*>(from);
  uint32_t word = 0;
  for (int i = 0; i < kWordBytes && column + i < m.width; ++i) word |= uint32_t{from[i]} << (8 * i);
  return word;
}

__device__ void store_word(const Transposition& m, int row, int column, uint32_t word, bool aligned) {
  if (row >= m.width || column >= m.to_stride) return;
  uint8_t* to = static_cast<uint8_t*>(m.to) + int64_t{row} * m.to_stride + column;
  if (aligned) {
    *reinterpret_cast<uint32_t*>(to) = word;
    return;
  }
  for (int i = 0; i < kWordBytes && column + i < m.to_stride; ++i) to[i] = static_cast<uint8_t>(word >> (8 * i));
}

// A thread turns 4 x 4 bytes in its registers. In shared memory word w of row r stands at w ^ (r / 4), so that a warp
// meets each bank once, writing four rows apart as well as reading along a row.
__global__ void __launch_bounds__(kThreads) transpose_bytes(const Matrices matrices) {
  __shared__ uint32_t words[kByteSide][kRowWords];
  const BlockTile tile = tile_of_block<kByteSide>(matrices);
  const Transposition& m = matrices.all[tile.matrix];
  const bool aligned = is_word_aligned(m);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  for (int r = warp; r < kRowWords; r += kThreads / kWarp) {
    uint32_t in[kWordBytes];
#pragma unroll
    for (int i = 0; i < kWordBytes; ++i) {
      in[i] = load_word(m, tile.first_row + r * kWordBytes + i, tile.first_column + lane * kWordBytes, aligned);
    }
#pragma unroll
    for (int i = 0; i < kWordBytes; ++i) {
      uint32_t out = 0;
#pragma unroll
      for (int j = 0; j < kWordBytes; ++j) out |= (in[j] >> (8 * i) & 0xFFu) << (8 * j);
      words[lane * kWordBytes + i][r ^ lane] = out;
    }
  }
  __syncthreads();
  for (int row = warp; row < kByteSide; row += kThreads / kWarp) {
    store_word(m, tile.first_column + row, tile.first_row + lane * kWordBytes, words[row][lane ^ row / kWordBytes],
               aligned);
  }
}

// Tiles down reach to to_stride, so that zeros are written behind the rows.
template <int kSide>
void launch_transpose(const char* op, void (*kernel)(Matrices), std::span<const Transposition> all, CudaQueue queue) {
  for (size_t first = 0; first < all.size(); first += kMostMatrices) {
    const size_t count = all.size() - first < kMostMatrices ? all.size() - first : kMostMatrices;
    Matrices matrices = {};
    for (size_t i = 0; i < count; ++i) {
      const Transposition& m = all[first + i];
      matrices.all[i] = m;
      const int64_t tiles = m.width > 0 ? ceil_div(m.to_stride, kSide) * ceil_div(m.width, kSide) : 0;
      matrices.first_block[i + 1] = matrices.first_block[i] + static_cast<int32_t>(tiles);
    }
    const auto blocks = static_cast<unsigned>(matrices.first_block[count]);
    launch_kernel(op, kernel, {dim3(blocks), dim3(kThreads)}, queue, matrices);
  }
}

}  // namespace

void transpose_bytes_cuda(const char* op, std::span<const Transposition> all, CudaQueue queue) {
  launch_transpose<kByteSide>(op, transpose_bytes, all, queue);
}
void transpose_words_cuda(const char* op, std::span<const Transposition> all, CudaQueue queue) {
  launch_transpose<kWordSide>(op, transpose_words, all, queue);
}

}  // namespace shoal
