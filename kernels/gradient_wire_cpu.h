// kernels/gradient_wire_cpu.h: the gradient codes' CPU loops, block by block.
#pragma once

#include "core/base/tensor.h"
#include "kernels/gradient_wire.h"

namespace shoal {

void encode_gradients_cpu(Tensor encoded, const Tensor& x, Tensor residual, GradientCode code);
void sum_gradients_cpu(Tensor out, const Tensor& onto, const Tensor& own, int own_rank, const Tensor& arrived,
                       GradientCode code);

}  // namespace shoal
