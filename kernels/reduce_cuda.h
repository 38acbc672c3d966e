// kernels/reduce_cuda.h: CUDA kernels of the ordered sums.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

void sum_of_squares_cuda(const TensorView& partial, const TensorView& x, CudaQueue queue);
// `partial` [ceil(n / kSumChunk)] f64 is scratch.
void sum_cuda(const TensorView& total, const TensorView& partial, const TensorView& x, CudaQueue queue);

}  // namespace shoal
