// kernels/mla_heads_cuda.h: CUDA kernels that put heads together and take them apart.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/mla_heads_shape.h"

namespace shoal {

void mla_heads_forward_cuda(const TensorView& k, const TensorView& v, const TensorView& kv, const TensorView& k_rope,
                            const MlaHeads& shape, CudaQueue queue);
void mla_heads_backward_cuda(const TensorView& d_kv, const TensorView& d_k_rope, const TensorView& d_k,
                             const TensorView& d_v, const MlaHeads& shape, CudaQueue queue);

}  // namespace shoal
