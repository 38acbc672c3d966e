// kernels/gemm_narrow_cpu.h: FP8 products with each 128 of the summed index added up in 14 bits, element by element.
#pragma once

#include "kernels/gemm_cpu.h"

namespace shoal {

// What kernels/gemm_fp8.h defines, but for the sums of products of codes (kernels/narrow_sum.h). NaN stays NaN.
void gemm_narrow_cpu(const GemmCall& call);

}  // namespace shoal
