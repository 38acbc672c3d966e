// kernels/adamw_cuda.h: AdamW's CUDA kernel.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/adamw_factors.h"

namespace shoal {

struct AdamwOperands {
  TensorView master, m, v, weight, grad;
};
void adamw_cuda(const AdamwOperands& operands, const AdamwFactors<double>& factors, CudaQueue queue);

}  // namespace shoal
