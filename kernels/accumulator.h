// kernels/accumulator.h: in what FP8 products are added up: as defined, or as FP8 tensor cores of Hopper do.
//
// The 14 bits are emulated (kernels/narrow_sum.h), for lessons and tests: slow. Promotion (arXiv:2412.19437 §3.3.2)
// moves a sum to an f32 total after every 128 products.
#pragma once

#include <cstdint>

namespace shoal {

enum class Accumulator {
  kF32,             // f32 over each 128, then an f32 total: the definition (kernels/gemm_fp8.h)
  kNarrowPromoted,  // 14 bits over each 128, then an f32 total: what the hardware does with promotion
  kNarrow,          // 14 bits from the first product to the last: without
};

constexpr int64_t kPromotionInterval = 128;

}  // namespace shoal
