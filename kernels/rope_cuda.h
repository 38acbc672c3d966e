// kernels/rope_cuda.h: the rotation's CUDA kernel.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/rope_shape.h"

namespace shoal {

void rope_cuda(const TensorView& x, const TensorView& positions, const TensorView& table, const RopeShape& shape,
               RopeDirection direction, CudaQueue queue);

}  // namespace shoal
