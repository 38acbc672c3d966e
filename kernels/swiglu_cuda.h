// kernels/swiglu_cuda.h: SwiGLU's CUDA kernels. An undefined `weights` is a weight of one.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

void swiglu_forward_cuda(const char* op, const TensorView& out, const TensorView& gate_up, const TensorView& weights,
                         CudaQueue queue);
// An undefined `d_weights` is not wanted.
void swiglu_backward_cuda(const char* op, const TensorView& d_gate_up, const TensorView& d_weights,
                          const TensorView& d_out, const TensorView& gate_up, const TensorView& weights,
                          CudaQueue queue);

}  // namespace shoal
