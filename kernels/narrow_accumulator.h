// kernels/narrow_accumulator.h: what the width of the accumulator does to long sums of E4M3 products, without scales.
//
// See kernels/accumulator.h. With a scale per tile: kernels/gemm_fp8.h, which takes the same choice.
#pragma once

#include "core/base/stream.h"
#include "kernels/accumulator.h"

namespace shoal {

// c [m, n] f32 = a · bᵀ, sums of products of codes without scales. Throws on codes that are NaN: a narrow sum has none.
//   a [m, k] e4m3, b [n, k] e4m3
void multiply_codes(Tensor c, const Tensor& a, const Tensor& b, Accumulator accumulator, Stream& stream);

}  // namespace shoal
