// kernels/adamw_cpu.h: AdamW's CPU loop.
#pragma once

#include "core/base/tensor.h"
#include "kernels/adamw_factors.h"

namespace shoal {

void adamw_cpu(Tensor master, Tensor m, Tensor v, Tensor weight, const Tensor& grad,
               const AdamwFactors<double>& factors);

}  // namespace shoal
