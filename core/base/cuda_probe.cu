// core/base/cuda_probe.cu: a kernel that does nothing, and whether it ran.
#include "core/base/cuda_probe.h"

#ifdef SHOAL_CUDA_EMULATED
#include <emulated_launch.h>
#endif

namespace shoal {

namespace {

__global__ void do_nothing() {}

}  // namespace

cudaError_t try_kernel() {
#ifdef SHOAL_CUDA_EMULATED
  return emulated::launch(do_nothing, dim3(1), dim3(1), 0, nullptr);
#else
  do_nothing<<<1, 1>>>();
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? cudaDeviceSynchronize() : error;
#endif
}

}  // namespace shoal
