// kernels/attention_cuda_tile.h: what attention's CUDA kernels share: tiles in shared memory, and their products in
// registers.
//
// A block is 16 x 16 threads. Of a tile of rows, thread (x, y) holds the `patch` rows from y * patch on; of scores it
// holds columns x, x + 16, …; of the wide results the packs of neighbouring columns x, x + 16, …. So the 16
// threads of one y share rows, are half a warp, and agree by shuffles.
#pragma once

#include "kernels/attention_cuda.h"
#include "kernels/cuda_block.h"

namespace shoal {

constexpr int kTileSide = 16;
constexpr int kTileThreads = kTileSide * kTileSide;

__device__ __forceinline__ int tile_x() { return static_cast<int>(threadIdx.x) % kTileSide; }
__device__ __forceinline__ int tile_y() { return static_cast<int>(threadIdx.x) / kTileSide; }

// Neighbouring elements, accessed at once.
template <class A, int count>
struct alignas(sizeof(A) * count) Pack {
  A values[count];

  __device__ A& operator[](int i) { return values[i]; }
  __device__ A operator[](int i) const { return values[i]; }
};
// Of 16 bytes.
template <class A>
constexpr int kPackOf = 16 / static_cast<int>(sizeof(A));
template <class A>
using Packed = Pack<A, kPackOf<A>>;

template <class A, int count>
__device__ __forceinline__ Pack<A, count> pack_at(const A* from) {
  return *reinterpret_cast<const Pack<A, count>*>(from);
}

// Rows in shared memory: whole runs, and a pack more, so that equal columns of neighbouring rows lie in other banks.
__host__ __device__ constexpr int run_columns(int width) { return (width + kRunLength - 1) / kRunLength * kRunLength; }
template <class A>
__host__ __device__ constexpr int shared_stride(int width) {
  return run_columns(width) + kPackOf<A>;
}

// The block's threads bring `count` rows into shared memory, times `scale`; the tile's other elements become zero.
template <int rows, class T, class A>
__device__ __forceinline__ void take_tile(A* to, const T* from, int64_t from_stride, int count, int width, A scale,
                                          bool aligned) {
  const int runs = run_columns(width) / kRunLength, stride = shared_stride<A>(width);
  for (int i = static_cast<int>(threadIdx.x); i < rows * runs; i += kTileThreads) {
    const int row = i / runs, column = i % runs * kRunLength;
    Run<T> run = {};
    if (row < count) {
      const T* address = from + row * from_stride + column;
      if (aligned) {
        load_run<true>(run, address, width - column);
      } else {
        load_run<false>(run, address, width - column);
      }
    }
#pragma unroll
    for (int part = 0; part < kRunLength; part += kPackOf<A>) {
      Packed<A> pack;
#pragma unroll
      for (int j = 0; j < kPackOf<A>; ++j) pack[j] = load(run[part + j]) * scale;
      *reinterpret_cast<Packed<A>*>(to + row * stride + column + part) = pack;
    }
  }
}

// sums[i][j] = row i of this thread's of `a`, times row x + 16 j of `b`; both are tiles of `width` columns.
template <int patch, class A>
__device__ __forceinline__ void multiply_rows(A (&sums)[patch][patch], const A* a, const A* b, int width) {
  const int stride = shared_stride<A>(width);
  a += tile_y() * patch * stride;
  b += tile_x() * stride;
#pragma unroll
  for (int i = 0; i < patch; ++i) {
#pragma unroll
    for (int j = 0; j < patch; ++j) sums[i][j] = 0;
  }
  for (int column = 0; column < run_columns(width); column += kPackOf<A>) {
    Packed<A> left[patch], right[patch];
#pragma unroll
    for (int i = 0; i < patch; ++i) {
      left[i] = pack_at<A, kPackOf<A>>(a + i * stride + column);
      right[i] = pack_at<A, kPackOf<A>>(b + i * kTileSide * stride + column);
    }
#pragma unroll
    for (int step = 0; step < kPackOf<A>; ++step) {
#pragma unroll
      for (int i = 0; i < patch; ++i) {
#pragma unroll
        for (int j = 0; j < patch; ++j) sums[i][j] += left[i][step] * right[j][step];
      }
    }
  }
}

// Rows of a wide result: thread (x, y)'s share of `patch * 16` rows of up to `most_width` columns.
template <int patch, int most_width, class A>
struct WideRows {
  static constexpr int kPacks = most_width / (kTileSide * kPackOf<A>);
  Packed<A> sums[patch][kPacks] = {};

  // The first column of a pack.
  __device__ static int column_of(int pack) { return (pack * kTileSide + tile_x()) * kPackOf<A>; }

  __device__ __forceinline__ void scale_row(int i, A factor) {
#pragma unroll
    for (int pack = 0; pack < kPacks; ++pack) {
#pragma unroll
      for (int j = 0; j < kPackOf<A>; ++j) sums[i][pack][j] *= factor;
    }
  }

  // Adds factors[i] times row `row` of the tile `b`.
  template <class Factors>
  __device__ __forceinline__ void add_row(const Factors& factors, const A* b, int row, int width) {
    b += row * shared_stride<A>(width);
#pragma unroll
    for (int pack = 0; pack < kPacks; ++pack) {
      const int column = column_of(pack);
      if (column >= width) break;
      const Packed<A> right = pack_at<A, kPackOf<A>>(b + column);
#pragma unroll
      for (int i = 0; i < patch; ++i) {
#pragma unroll
        for (int j = 0; j < kPackOf<A>; ++j) sums[i][pack][j] += factors[i] * right[j];
      }
    }
  }

  // Adds weights [rows, rows] times `b` [rows, width].
  __device__ __forceinline__ void add_product(const A* weights, const A* b, int width) {
    constexpr int kRows = patch * kTileSide;
    weights += tile_y() * patch * shared_stride<A>(kRows);
    for (int row = 0; row < kRows; row += kPackOf<A>) {
      Packed<A> left[patch];
#pragma unroll
      for (int i = 0; i < patch; ++i) left[i] = pack_at<A, kPackOf<A>>(weights + i * shared_stride<A>(kRows) + row);
#pragma unroll
      for (int step = 0; step < kPackOf<A>; ++step) {
        Pack<A, patch> factors;
#pragma unroll
        for (int i = 0; i < patch; ++i) factors[i] = left[i][step];
        add_row(factors, b, row + step, width);
      }
    }
  }

  // Adds the transpose of weights [rows, rows] times `b` [rows, width].
  __device__ __forceinline__ void add_transposed_product(const A* weights, const A* b, int width) {
    constexpr int kRows = patch * kTileSide;
    weights += tile_y() * patch;
#pragma unroll 4
    for (int row = 0; row < kRows; ++row) {
      add_row(pack_at<A, patch>(weights + row * shared_stride<A>(kRows)), b, row, width);
    }
  }

  // Row i of this thread's, times `factor`, rounded once.
  template <class T>
  __device__ __forceinline__ void leave_row(T* to, int i, A factor, int width, bool aligned) const {
#pragma unroll
    for (int pack = 0; pack < kPacks; ++pack) {
      const int column = column_of(pack);
      if (column >= width) break;
      Pack<T, kPackOf<A>> rounded;
#pragma unroll
      for (int j = 0; j < kPackOf<A>; ++j) rounded[j] = store<T>(sums[i][pack][j] * factor);
      if (aligned && width - column >= kPackOf<A>) {
        *reinterpret_cast<Pack<T, kPackOf<A>>*>(to + column) = rounded;
      } else {
#pragma unroll
        for (int j = 0; j < kPackOf<A>; ++j) {
          if (j < width - column) to[column + j] = rounded[j];
        }
      }
    }
  }
};

// A tile with its head: which one a block takes. All heads of a tile come side by side and share what they read.
__device__ __forceinline__ int64_t block_of_heads(int64_t heads) { return int64_t{blockIdx.x} / heads; }
__device__ __forceinline__ int64_t head_of_block(int64_t heads) { return int64_t{blockIdx.x} % heads; }

inline Grid tile_grid(size_t num_tiles, int64_t heads, int64_t shared_numel, int64_t element_bytes) {
  return {dim3(static_cast<unsigned>(static_cast<int64_t>(num_tiles) * heads)), dim3(kTileThreads),
          static_cast<size_t>(shared_numel * element_bytes)};
}

template <int n>
struct Constant {
  static constexpr int value = n;
};

// Calls f(T{}, rows, qk, v) with the storage type, the tile's rows and upper bounds of the widths, as Constants.
template <class F>
void dispatch_attention(DType dtype, const AttentionShape& shape, F&& f) {
  const auto widths = [&]<class T>(T t) {
    if (shape.qk_dim <= 64 && shape.v_dim <= 64) {
      f(t, Constant<64>{}, Constant<64>{}, Constant<64>{});
    } else if (shape.qk_dim <= 128 && shape.v_dim <= 128) {
      f(t, Constant<64>{}, Constant<128>{}, Constant<128>{});
    } else if (shape.qk_dim <= 192 && shape.v_dim <= 128) {
      f(t, Constant<64>{}, Constant<192>{}, Constant<128>{});
    } else {
      f(t, Constant<32>{}, Constant<256>{}, Constant<256>{});
    }
  };
  switch (dtype) {
    case DType::kF64: return f(double{}, Constant<16>{}, Constant<256>{}, Constant<256>{});
    case DType::kF32: return widths(float{});
    default: return widths(bfloat16{});
  }
}

// May heads' rows be accessed 16 bytes at a time?
template <class... Views>
bool heads_aligned(const AttentionShape& shape, const TensorView& first, const Views&... views) {
  const int64_t bytes = size_of(first.dtype);
  return shape.qk_dim * bytes % 16 == 0 && shape.v_dim * bytes % 16 == 0 && all_aligned(first, views...);
}

}  // namespace shoal
