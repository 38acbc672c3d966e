// kernels/reduce_cpu.h: CPU loops of the ordered sums.
#pragma once

#include "core/base/tensor.h"

namespace shoal {

void sum_of_squares_cpu(Tensor partial, const Tensor& x);
// `partial` [ceil(n / kSumChunk)] f64 is scratch.
void sum_cpu(Tensor total, Tensor partial, const Tensor& x);

}  // namespace shoal
