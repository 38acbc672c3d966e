// kernels/cuda_rows.h: what kernels share that visit rows by an index: threads over rows, accesses, refused indices.
#pragma once

#include "kernels/cuda_launch.h"

namespace shoal {

// What the CPU's loop refuses with a sentence (an index outside of its rows) stops the device: the driver prints `rule`
// with block and thread, and the next call that asks for an error throws cudaErrorAssert.
__device__ __forceinline__ void require(bool holds, [[maybe_unused]] const char* rule) {
#ifdef __CUDA_ARCH__
  if (!holds) __assert_fail(rule, "kernels", 0, "require");
#else
  if (!holds) __trap();
#endif
}

// Blocks of 256 threads: x along a row of `units`, y on rows side by side, so that short rows fill blocks too.
inline Grid grid_of_rows(int64_t rows, int64_t units) {
  constexpr unsigned kThreads = 256;
  unsigned along = 1;
  while (along < kThreads && along < units) along *= 2;
  const unsigned rows_at_once = kThreads / along;
  return {dim3(static_cast<unsigned>(ceil_div(rows, rows_at_once))), dim3(along, rows_at_once)};
}
// The row of the calling thread in such a grid; it may lie behind the last.
__device__ __forceinline__ int64_t row_of_thread() { return int64_t{blockIdx.x} * blockDim.y + threadIdx.y; }

// Blocks of 256 threads, one for each of `count` items.
inline Grid grid_of_threads(int64_t count) {
  constexpr unsigned kThreads = 256;
  return {dim3(static_cast<unsigned>(ceil_div(count, kThreads))), dim3(kThreads)};
}
__device__ __forceinline__ int64_t index_of_thread() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

// Addresses and sizes in bytes, or-ed: dispatch_unit calls f(Unit{}) with the widest access that divides them all.
template <class F>
void dispatch_unit(uint64_t addresses_and_sizes, F&& f) {
  if (addresses_and_sizes % 16 == 0) {
    f(uint4{});
  } else if (addresses_and_sizes % 8 == 0) {
    f(uint2{});
  } else if (addresses_and_sizes % 4 == 0) {
    f(uint32_t{});
  } else if (addresses_and_sizes % 2 == 0) {
    f(uint16_t{});
  } else {
    f(uint8_t{});
  }
}
inline uint64_t address_of(const void* data) { return reinterpret_cast<uintptr_t>(data); }

}  // namespace shoal
