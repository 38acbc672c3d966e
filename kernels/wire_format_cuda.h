// kernels/wire_format_cuda.h: the wire formats' CUDA kernels.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/wire_layout.h"

namespace shoal {

void encode_rows_cuda(const TensorView& encoded, const TensorView& x, WireFormat format, CudaQueue queue);
void decode_rows_cuda(const TensorView& x, const TensorView& encoded, WireFormat format, CudaQueue queue);

}  // namespace shoal
