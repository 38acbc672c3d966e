// kernels/swiglu_cpu.h: SwiGLU's CPU loops. An undefined `weights` is a weight of one.
#pragma once

#include "core/base/tensor.h"

namespace shoal {

void swiglu_forward_cpu(Tensor out, const Tensor& gate_up, const Tensor& weights);
void swiglu_backward_cpu(Tensor d_gate_up, Tensor d_weights, const Tensor& d_out, const Tensor& gate_up,
                         const Tensor& weights);

}  // namespace shoal
