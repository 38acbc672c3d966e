// core/base/bfloat16.h: the upper half of an IEEE f32, rounded to nearest even.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace shoal {

struct bfloat16 {
  uint16_t bits = 0;

  bfloat16() = default;
  constexpr explicit bfloat16(float value) : bits(round_bits(value)) {}
  constexpr explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

  static constexpr bfloat16 from_bits(uint16_t bits) {
    bfloat16 value;
    value.bits = bits;
    return value;
  }
  friend constexpr bool operator==(bfloat16 a, bfloat16 b) { return static_cast<float>(a) == static_cast<float>(b); }

 private:
  // Branch-free but for NaN, so that loops over it vectorise. A NaN keeps its sign and becomes quiet.
  static constexpr uint16_t round_bits(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    const uint32_t quiet = (u >> 16) | 0x0040u;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    // One instruction for two numbers, which gives every NaN the same bits.
    if (!std::is_constant_evaluated()) {
      uint16_t nearest;
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(nearest) : "f"(value));
      return value == value ? nearest : static_cast<uint16_t>(quiet);
    }
#endif
    return static_cast<uint16_t>((u & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
  }
};
static_assert(sizeof(bfloat16) == 2);

// One spelling for reading and writing an element of any floating storage type.
template <class T>
constexpr auto load(T value) {
  return value;
}
constexpr float load(bfloat16 value) { return static_cast<float>(value); }
template <class T, class V>
constexpr T store(V value) {
  return static_cast<T>(value);
}

}  // namespace shoal
