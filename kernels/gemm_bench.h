// kernels/gemm_bench.h: how fast this rank multiplies: the ceiling that training is measured against.
#pragma once

#include "core/base/stream.h"

namespace shoal {

// FLOP/s of y [m, n] = x [m, k] · Wᵀ with W packed beforehand, on all of this rank's threads: the median over
// repetitions that fill about `seconds`, after one to warm up. dtype f32 or bf16.
double measure_gemm_flops_per_s(DType dtype, int64_t m, int64_t n, int64_t k, Stream& stream, double seconds);

}  // namespace shoal
