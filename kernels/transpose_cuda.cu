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
constexpr int kRunBytes = 16;
constexpr int kRunWords = kRunBytes / kWordBytes;
constexpr int kRowWords = kByteSide / kWordBytes;
constexpr int kRowRuns = kByteSide / kRunBytes;

struct alignas(kRunBytes) RunOfBytes {
  uint32_t words[kRunWords];  // the first byte is the lowest of the first
};

// May runs be read, and written, whole where they are inside?
__device__ bool reads_runs(const Transposition& m) {
  return (reinterpret_cast<uintptr_t>(m.from) | static_cast<unsigned>(m.from_stride)) % kRunBytes == 0;
}
__device__ bool writes_runs(const Transposition& m) {
  return (reinterpret_cast<uintptr_t>(m.to) | static_cast<unsigned>(m.to_stride)) % kRunBytes == 0;
}

__device__ RunOfBytes load_bytes(const Transposition& m, int row, int column, bool whole) {
  RunOfBytes run = {};
  if (row >= m.rows || column >= m.width) return run;
  const uint8_t* from = static_cast<const uint8_t*>(m.from) + int64_t{row} * m.from_stride + column;
  if (whole && column + kRunBytes <= m.width) return *reinterpret_cast<const RunOfBytes*>(from);
  for (int i = 0; i < kRunBytes && column + i < m.width; ++i) {
    run.words[i / kWordBytes] |= uint32_t{from[i]} << (8 * (i % kWordBytes));
  }
  return run;
}

__device__ void store_bytes(const Transposition& m, int row, int column, const RunOfBytes& run, bool whole) {
  if (row >= m.width || column >= m.to_stride) return;
  uint8_t* to = static_cast<uint8_t*>(m.to) + int64_t{row} * m.to_stride + column;
  if (whole && column + kRunBytes <= m.to_stride) {
    *reinterpret_cast<RunOfBytes*>(to) = run;
    return;
  }
  for (int i = 0; i < kRunBytes && column + i < m.to_stride; ++i) {
    to[i] = static_cast<uint8_t>(run.words[i / kWordBytes] >> (8 * (i % kWordBytes)));
  }
}

// Bytes of x and y by the four digits of `choice`: 0 to 3 are x's, 4 to 7 y's; the lowest digit is the lowest byte.
__device__ uint32_t choose_bytes(uint32_t x, uint32_t y, uint32_t choice) {
#ifdef __CUDA_ARCH__
  return __byte_perm(x, y, choice);
#else
  const uint64_t both = uint64_t{y} << 32 | x;
  uint32_t out = 0;
  for (int i = 0; i < kWordBytes; ++i) {
    out |= static_cast<uint32_t>(both >> (8 * (choice >> (4 * i) & 7)) & 0xFF) << (8 * i);
  }
  return out;
#endif
}

// in[i]: bytes of row i; out[j]: those of column j.
__device__ void transpose_4x4(uint32_t (&out)[4], const uint32_t (&in)[4]) {
  const uint32_t low01 = choose_bytes(in[0], in[1], 0x5140), low23 = choose_bytes(in[2], in[3], 0x5140);
  const uint32_t high01 = choose_bytes(in[0], in[1], 0x7362), high23 = choose_bytes(in[2], in[3], 0x7362);
  out[0] = choose_bytes(low01, low23, 0x5410);
  out[1] = choose_bytes(low01, low23, 0x7632);
  out[2] = choose_bytes(high01, high23, 0x5410);
  out[3] = choose_bytes(high01, high23, 0x7632);
}

// In shared memory word w of row r stands at w ^ (r / 16) * 4: the eight runs of 16 rows that neighbouring threads
// gather come from different banks.
__device__ int place_of(int row, int word) { return word ^ (row / kRunBytes * kRunWords); }

// A tile comes in runs along its rows, and leaves in runs down its columns: a thread gathers a word of each of 16 rows.
__global__ void __launch_bounds__(kThreads) transpose_bytes(const Matrices matrices) {
  __shared__ __align__(kRunBytes) uint32_t words[kByteSide][kRowWords];
  const BlockTile tile = tile_of_block<kByteSide>(matrices);
  const Transposition m = matrices.all[tile.matrix];
  const bool whole_reads = reads_runs(m), whole_writes = writes_runs(m);
  constexpr int kRuns = kByteSide * kRowRuns / kThreads;  // a thread
  RunOfBytes runs[kRuns];
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kThreads;
    runs[i] = load_bytes(m, tile.first_row + at / kRowRuns, tile.first_column + at % kRowRuns * kRunBytes, whole_reads);
  }
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kThreads, row = at / kRowRuns;
    *reinterpret_cast<RunOfBytes*>(&words[row][place_of(row, at % kRowRuns * kRunWords)]) = runs[i];
  }
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < kRowWords * kRowRuns; at += kThreads) {
    const int word = at / kRowRuns, first = at % kRowRuns * kRunBytes;
    RunOfBytes columns[kWordBytes];
#pragma unroll
    for (int quad = 0; quad < kRunWords; ++quad) {
      uint32_t in[4], out[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first + quad * 4 + i;
        in[i] = words[row][place_of(row, word)];
      }
      transpose_4x4(out, in);
#pragma unroll
      for (int j = 0; j < kWordBytes; ++j) columns[j].words[quad] = out[j];
    }
#pragma unroll
    for (int j = 0; j < kWordBytes; ++j) {
      store_bytes(m, tile.first_column + word * kWordBytes + j, tile.first_row + first, columns[j], whole_writes);
    }
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
