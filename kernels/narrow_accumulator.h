// kernels/narrow_accumulator.h: how FP8 tensor cores of Hopper add up, emulated: for lessons and tests, slow.
//
// Products come in groups of 32, aligned to the largest magnitude among them and the running sum; of each only the
// highest 14 bits from there are added, the rest cut off, and the sum is kept in 14 bits too (arXiv:2412.19437 §3.5.2;
// that the running sum takes part in the alignment: Fasi et al., PeerJ CS 7:e330, 2021, for earlier tensor cores). The
// longer the sum, the more of a product is lost. Promotion (§3.3.2) moves it to an f32 total after every 128 products.
#pragma once

#include "core/base/stream.h"

namespace shoal {

enum class Accumulator {
  kF32,             // f32 over each 128, then an f32 total: the definition (kernels/gemm_fp8.h)
  kNarrowPromoted,  // 14 bits over each 128, then an f32 total: what the hardware does with promotion
  kNarrow,          // 14 bits from the first product to the last: without
};

constexpr int64_t kPromotionInterval = 128;

// c [m, n] f32 = a · bᵀ, sums of products of codes without scales.   a [m, k] e4m3, b [n, k] e4m3
void multiply_codes(Tensor c, const Tensor& a, const Tensor& b, Accumulator accumulator, Stream& stream);

}  // namespace shoal
