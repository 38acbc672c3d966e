// kernels/elementwise_cpu.h: CPU loops of casts, sums and fills.
#pragma once

#include "core/base/tensor.h"

namespace shoal {

void cast_cpu(Tensor out, const Tensor& x);
void add_cpu(Tensor out, const Tensor& a, const Tensor& b);
void scale_cpu(Tensor x, double factor);
void fill_zero_cpu(Tensor x);

}  // namespace shoal
