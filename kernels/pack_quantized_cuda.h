// kernels/pack_quantized_cuda.h: CUDA kernels of packed FP8 rows.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

// A scale that is no power of two becomes a NaN: there is no byte for it, and nobody waits to be told.
void pack_quantized_cuda(const TensorView& packed, const TensorView& codes, const TensorView& scales, CudaQueue queue);
void unpack_scales_cuda(const TensorView& scales, const TensorView& packed, CudaQueue queue);

}  // namespace shoal
