// kernels/quantize_scale.h: sizes, scales and counts of FP8 tiles as the CPU and CUDA share them. Free of fmt, for .cu
// files; what a tile is stands in kernels/quantize.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "core/base/bfloat16.h"
#include "core/base/float8.h"

namespace shoal {

constexpr int64_t kTile = 128;
constexpr int64_t num_tiles(int64_t extent) { return (extent + kTile - 1) / kTile; }

enum class TileScale { kExact, kPowerOfTwo };

// An activation tile of smaller numbers has the scale of this one: zeros are zeros at a sound scale.
constexpr float kMinActivationAmax = 1e-4f;
// Gradients shrink with the number of tokens in a step; only zeros need a floor. No min_amax may be smaller: 448 / amax
// and the scale stay normal numbers.
constexpr float kMinGradientAmax = 1e-30f;
constexpr float kMinWeightAmax = kMinGradientAmax;  // of a block that is not all zeros

// What quantisation lost, added up by every call that is given a tensor [kNumQuantizeCounts] f64.
enum QuantizeCount {
  kValues,     // values quantised
  kSaturated,  // of them, those encoded as the largest number, ±448 (at an exact scale at least one a tile)
  kFlushed,    // not zero, but encoded as zero; both but in tiles that are not finite
  kNotFinite,  // tiles that held a NaN or an infinity
  kMinScale,   // smallest and largest scale of a tile that is not all zeros; a fresh tensor has +inf and 0 there
  kMaxScale,
  kNumQuantizeCounts
};

// |x| as an integer: ordered as the numbers are, infinity beyond them, NaN beyond infinity. So one maximum finds the
// largest number and whatever is not one, on twice as many bf16 at a time as arithmetic in f32 would.
constexpr uint16_t size_bits(bfloat16 x) { return static_cast<uint16_t>(x.bits & 0x7FFFu); }
constexpr uint32_t size_bits(float x) { return std::bit_cast<uint32_t>(x) & 0x7FFFFFFFu; }
template <class T>
using SizeBits = decltype(size_bits(T{}));
constexpr uint32_t f32_bits(uint16_t bf16_bits) { return static_cast<uint32_t>(bf16_bits) << 16; }
constexpr uint32_t f32_bits(uint32_t bits) { return bits; }

struct TileFactors {
  float scale = 0, inverse = 0;  // code = E4M3(x * inverse); both NaN where the tile is not finite
};

// Branch-free in `amax_bits`, so that loops over columns vectorise.
[[gnu::always_inline]] constexpr TileFactors tile_factors(uint32_t amax_bits, float min_amax, TileScale kind) {
  constexpr float kLargest = E4M3::largest(), kNaN = std::numeric_limits<float>::quiet_NaN();
  const bool is_power = kind == TileScale::kPowerOfTwo;
  const float amax = std::bit_cast<float>(std::max(amax_bits, std::bit_cast<uint32_t>(min_amax)));
  const float exact = amax / kLargest;
  // Up to the next power of two: any bit of the mantissa carries into the exponent.
  const float power = std::bit_cast<float>((std::bit_cast<uint32_t>(exact) + 0x7FFFFFu) & 0x7F800000u);
  const float inverse = (is_power ? 1.0f : kLargest) / (is_power ? power : amax);
  const bool is_finite = amax_bits < 0x7F800000u;
  return {is_finite ? (is_power ? power : exact) : kNaN, is_finite ? inverse : kNaN};
}

// Of a weight block, whose scale is 1 where it is all zeros.
constexpr TileFactors block_factors(uint32_t amax_bits) {
  const TileFactors factors = tile_factors(amax_bits, kMinWeightAmax, TileScale::kExact);
  return amax_bits == 0 ? TileFactors{1, 1} : factors;
}

}  // namespace shoal
