// kernels/gemm_bench.h: how fast this rank multiplies: the ceiling that training is measured against.
#pragma once

#include <functional>

#include "kernels/gemm.h"

namespace shoal {

// FLOP/s of y [m, n] = x [m, k] · Wᵀ with W packed beforehand, on all of this rank's threads: the median over
// repetitions that fill about `seconds`, after one to warm up. dtype f32 or bf16.
double measure_gemm_flops_per_s(DType dtype, int64_t m, int64_t n, int64_t k, Stream& stream, double seconds);

// Puts y = x · Wᵀ on the queue by the fastest of cuBLASLt's suggestions, found by trying them: what linear_forward,
// which takes the first, is measured against. Empty where cuBLASLt is not asked. Operands as linear_forward's, in f32
// or bf16; they must outlive it.
std::function<void()> fastest_cublas_forward(const Tensor& y, const Tensor& x, const PackedMatrix& weight,
                                             Stream& stream);

}  // namespace shoal
