// kernels/adamw_cpu.h: AdamW's CPU loop.
#pragma once

#include "kernels/adamw.h"

namespace shoal {

void adamw_cpu(Tensor master, Tensor m, Tensor v, Tensor weight, const Tensor& grad, const AdamwStep& step);

}  // namespace shoal
