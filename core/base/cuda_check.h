// core/base/cuda_check.h: errors of CUDA's runtime become Errors. Free of fmt, for .cu files.
#pragma once

#include <cuda_runtime.h>

namespace shoal {

// Throws "CUDA: WHAT failed: cudaErrorX (its sentence)" unless `error` is cudaSuccess. `what`: the call, or the op.
void check_cuda(cudaError_t error, const char* what);

}  // namespace shoal
