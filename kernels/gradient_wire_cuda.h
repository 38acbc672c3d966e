// kernels/gradient_wire_cuda.h: the gradient codes' CUDA kernels.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/gradient_code.h"

namespace shoal {

// An undefined `residual` is no error feedback.
void encode_gradients_cuda(const TensorView& encoded, const TensorView& x, const TensorView& residual,
                           GradientCode code, CudaQueue queue);
// An undefined `onto`: the sum begins with rank 0's.
void sum_gradients_cuda(const TensorView& out, const TensorView& onto, const TensorView& own, int own_rank,
                        const TensorView& arrived, GradientCode code, CudaQueue queue);

}  // namespace shoal
