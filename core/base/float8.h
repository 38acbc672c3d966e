// core/base/float8.h: small floating formats: E4M3, E5M2, and the 12-bit E5M6.
//
//              exponent, mantissa   largest   smallest normal, subnormal   not a number   infinity
//   E4M3            4, 3              448        2^-6,   2^-9              S.1111.111        none
//   E5M2            5, 2            57344        2^-14,  2^-16             exponent 31       yes
//   E5M6            5, 6            65024        2^-14,  2^-20             exponent 31       yes
//
// E4M3 and E5M2 are the OCP 8-bit formats (arXiv:2209.05433; E4M3 is "e4m3fn"); E5M6 is DeepSeek-V3's for the input of
// the linear after attention (arXiv:2412.19437 §3.3.3), with IEEE's rules. E4M3 values are a subset of bf16.
//
// Encoding rounds to nearest even. A finite number beyond the largest becomes the largest (saturates). Infinity stays
// infinity where the format has one and becomes NaN in E4M3; NaN stays NaN. So neither turns into a number.
#pragma once

#include <bit>
#include <cstdint>

namespace shoal {

// Both directions are branch-free, so that loops over them vectorise; constexpr, so that device code may call them.
template <int kExponentBits, int kMantissaBits, bool kHasInfinity>
struct MiniFloat {
  static constexpr int kBits = 1 + kExponentBits + kMantissaBits;
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr uint32_t kSign = 1u << (kBits - 1);
  static constexpr uint32_t kTopExponent = ((1u << kExponentBits) - 1) << kMantissaBits;  // mantissa 0
  static constexpr uint32_t kInfinity = kTopExponent;                                     // where there is one
  static constexpr uint32_t kNaN = kHasInfinity ? kTopExponent | (1u << (kMantissaBits - 1)) : kSign - 1;
  static constexpr uint32_t kLargest = kHasInfinity ? kTopExponent - 1 : kSign - 2;
  static constexpr int kShift = 23 - kMantissaBits;  // from f32's mantissa

  static constexpr uint32_t encode(float value) {
    constexpr uint32_t kF32Infinity = 0x7F800000u, kF32Largest = std::bit_cast<uint32_t>(largest());
    constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(127 + 1 - kBias) << 23;
    const uint32_t bits = std::bit_cast<uint32_t>(value), size = bits & 0x7FFFFFFFu;
    const uint32_t finite = size < kF32Largest ? size : kF32Largest;
    const uint32_t exponent = (finite & kF32Infinity) > kSmallestNormal ? finite & kF32Infinity : kSmallestNormal;
    // Adding 2^23 units of the code's last place leaves their number, rounded, in the low bits of the sum. What is
    // below the smallest normal number has its exponent; a step up to the next exponent is a carry.
    const uint32_t magic = exponent + (static_cast<uint32_t>(kShift) << 23);
    const uint32_t units = std::bit_cast<uint32_t>(std::bit_cast<float>(finite) + std::bit_cast<float>(magic)) - magic;
    const uint32_t number = units + ((exponent - kSmallestNormal) >> kShift);
    const uint32_t special = size > kF32Infinity || !kHasInfinity ? kNaN : kInfinity;
    return (size < kF32Infinity ? number : special) | ((bits >> 31) << (kBits - 1));
  }

  static constexpr float decode(uint32_t code) {
    constexpr float kQuantum = std::bit_cast<float>(static_cast<uint32_t>(127 + 1 - kBias - kMantissaBits) << 23);
    const uint32_t size = code & (kSign - 1);
    const uint32_t subnormal = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(size)) * kQuantum);
    const uint32_t normal = (size << kShift) + (static_cast<uint32_t>(127 - kBias) << 23);
    // Exponent 31 is f32's 255.
    const uint32_t special =
        kHasInfinity ? (size << kShift) + (static_cast<uint32_t>(255 - 2 * kBias - 1) << 23) : 0x7FC00000u;
    const bool is_special = kHasInfinity ? size >= kTopExponent : size == kNaN;
    const uint32_t finite = size < (1u << kMantissaBits) ? subnormal : normal;
    return std::bit_cast<float>((is_special ? special : finite) | ((code & kSign) << (32 - kBits)));
  }

  static constexpr float largest() {
    return std::bit_cast<float>((kLargest << kShift) + (static_cast<uint32_t>(127 - kBias) << 23));
  }
};

using E4M3 = MiniFloat<4, 3, false>;
using E5M2 = MiniFloat<5, 2, true>;
using E5M6 = MiniFloat<5, 6, true>;
static_assert(E4M3::largest() == 448 && E5M2::largest() == 57344 && E5M6::largest() == 65024);

// An element of an FP8 tensor. What it stands for is this times the scale of its tile (kernels/quantize.h).
struct float8_e4m3 {
  uint8_t bits = 0;

  float8_e4m3() = default;
  constexpr explicit float8_e4m3(float value) : bits(static_cast<uint8_t>(E4M3::encode(value))) {}
  constexpr explicit operator float() const { return E4M3::decode(bits); }
};
static_assert(sizeof(float8_e4m3) == 1);

constexpr float load(float8_e4m3 value) { return static_cast<float>(value); }

}  // namespace shoal
