// kernels/cuda_block.h: what kernels share: runs of neighbouring elements, and sums over a warp or a block.
//
// Sums are trees of fixed shape: the same bits every time. No floating-point atomics in the house.
#pragma once

#include <type_traits>

#include "core/base/dtype.h"
#include "core/base/tensor_view.h"
#include "kernels/cuda_launch.h"

namespace shoal {

// Elements that one thread takes at a time: 16 bytes of bf16, two accesses of f32.
constexpr int kRunLength = 8;

template <class T>
struct alignas(sizeof(T) * kRunLength < 16 ? sizeof(T) * kRunLength : 16) Run {
  T values[kRunLength];

  __device__ T& operator[](int i) { return values[i]; }
  __device__ const T& operator[](int i) const { return values[i]; }
};

// A matrix by rows, which may be strided.
template <class T>
struct RowsOf {
  T* data = nullptr;
  int64_t stride = 0;

  __device__ T* at(int64_t row, int64_t column) const { return data + row * stride + column; }
};
template <class T>
RowsOf<T> rows_of(const TensorView& x) {
  return {x.as<T>(), x.row_stride};
}

// May rows be read and written in accesses of 16 bytes? An operand that was left out may; a vector is one row.
inline bool is_aligned(const TensorView& x) {
  const auto address = reinterpret_cast<uintptr_t>(x.data);
  const bool is_vector = x.width == 1 && x.row_stride == 1;
  return address % 16 == 0 && (x.rows <= 1 || is_vector || x.row_stride * size_of(x.dtype) % 16 == 0);
}
template <class... Views>
bool all_aligned(const Views&... views) {
  return (is_aligned(views) && ...);
}

template <class T>
using RunAccess = std::conditional_t<(sizeof(Run<T>) < sizeof(uint4)), uint2, uint4>;

// A run's elements, the first `count` of them; the others keep what `to` had. kAligned: `from` is, where count is
// whole.
template <bool kAligned, class T>
__device__ __forceinline__ void load_run(Run<T>& to, const T* from, int64_t count) {
  using Access = RunAccess<T>;
  if (kAligned && count >= kRunLength) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(to) / sizeof(Access)); ++i) {
      reinterpret_cast<Access*>(&to)[i] = reinterpret_cast<const Access*>(from)[i];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) {
    if (i < count) to[i] = from[i];
  }
}

template <bool kAligned, class T>
__device__ __forceinline__ void store_run(T* to, const Run<T>& from, int64_t count) {
  using Access = RunAccess<T>;
  if (kAligned && count >= kRunLength) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(from) / sizeof(Access)); ++i) {
      reinterpret_cast<Access*>(to)[i] = reinterpret_cast<const Access*>(&from)[i];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) {
    if (i < count) to[i] = from[i];
  }
}

// Calls f(first column, how many) for the calling thread's runs of a row that the block's threads share.
template <class F>
__device__ __forceinline__ void for_each_run(int64_t width, F&& f) {
  for (int64_t column = int64_t{threadIdx.x} * kRunLength; column < width; column += blockDim.x * kRunLength) {
    f(column, width - column);
  }
}

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Min {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// Of the values of all 32 lanes, on every lane.
template <class Combine = Add, class T>
__device__ __forceinline__ T warp_reduce(T value, Combine combine = {}) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
  }
  return value;
}

// Of the values of all threads of a block of whole warps (at most 1024 threads in x), on every thread. Everybody calls
// it; it may be called again at once.
template <class Combine = Add, class T>
__device__ __forceinline__ T block_reduce(T value, Combine combine = {}) {
  __shared__ T of_warp[kWarp];
  value = warp_reduce(value, combine);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  __syncthreads();  // nobody still reads an earlier call's
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  T result = of_warp[0];
  for (int i = 1; i < num_warps; ++i) result = combine(result, of_warp[i]);
  return result;
}

// Threads for a row of `width`, a run each, in whole warps.
inline int threads_for_row(int64_t width, int most = 512) {
  const int64_t threads = ceil_div(ceil_div(width, kRunLength), kWarp) * kWarp;
  return static_cast<int>(threads < kWarp ? kWarp : threads > most ? most : threads);
}

}  // namespace shoal
