// kernels/cuda_launch.h: what every .cu file shares: how a kernel is started, and its dynamic shared memory.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/cuda_check.h"
#ifdef SHOAL_CUDA_EMULATED
#include <emulated_launch.h>
#endif

// Dynamic shared memory of the block, as an array of T: SHOAL_DYNAMIC_SHARED(float, tile);
#ifdef SHOAL_CUDA_EMULATED
#define SHOAL_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(emulated::dynamic_shared())
#else
#define SHOAL_DYNAMIC_SHARED(T, name)                             \
  extern __shared__ __align__(16) unsigned char shoal_dynamic_[]; \
  T* const name = reinterpret_cast<T*>(shoal_dynamic_)
#endif

namespace shoal {

constexpr int kWarp = 32;

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
};

// Puts a kernel on the queue. An empty grid is nothing to do. `op`: who is named when it fails.
template <class... Parameters, class... Arguments>
void launch_kernel(const char* op, void (*kernel)(Parameters...), const Grid& grid, CudaQueue queue,
                   Arguments&&... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  // What a block may have without asking.
  constexpr size_t kUsualSharedBytes = 48 << 10;
  if (grid.shared_bytes > kUsualSharedBytes) {
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared_bytes)),
        op);
  }
#ifdef SHOAL_CUDA_EMULATED
  check_cuda(emulated::launch(kernel, grid.blocks, grid.threads, grid.shared_bytes, queue,
                              static_cast<Arguments&&>(arguments)...),
             op);
#else
  kernel<<<grid.blocks, grid.threads, grid.shared_bytes, queue>>>(static_cast<Arguments&&>(arguments)...);
  check_cuda(cudaGetLastError(), op);
#endif
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace shoal
