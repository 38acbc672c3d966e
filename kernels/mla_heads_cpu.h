// kernels/mla_heads_cpu.h: CPU loops that put heads together and take them apart.
#pragma once

#include "core/base/tensor.h"
#include "kernels/mla_heads_shape.h"

namespace shoal {

void mla_heads_forward_cpu(Tensor k, Tensor v, const Tensor& kv, const Tensor& k_rope, const MlaHeads& shape);
void mla_heads_backward_cpu(Tensor d_kv, Tensor d_k_rope, const Tensor& d_k, const Tensor& d_v, const MlaHeads& shape);

}  // namespace shoal
