// kernels/elementwise_cuda.h: CUDA kernels of casts, sums and fills.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

void cast_cuda(const TensorView& out, const TensorView& x, CudaQueue queue);
void add_cuda(const TensorView& out, const TensorView& a, const TensorView& b, CudaQueue queue);
void scale_cuda(const TensorView& x, double factor, CudaQueue queue);
// Rows may be strided.
void fill_zero_cuda(const TensorView& x, CudaQueue queue);

}  // namespace shoal
