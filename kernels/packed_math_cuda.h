// kernels/packed_math_cuda.h: several narrow numbers in one instruction, where the GPU has one.
//
// E4M3 is encoded in hardware for finite numbers only: there it rounds and saturates as core/base/float8.h does, but an
// infinity becomes ±448 and a NaN loses its sign. Elsewhere, and in emulated kernels, the portable spelling runs.
#pragma once

#include "kernels/cuda_block.h"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define SHOAL_PACKED_INSTRUCTIONS 1
#else
#define SHOAL_PACKED_INSTRUCTIONS 0
#endif

namespace shoal {

template <int kCount>
struct Words {
  uint32_t words[kCount];

  __device__ uint32_t& operator[](int i) { return words[i]; }
  __device__ const uint32_t& operator[](int i) const { return words[i]; }
};

// The larger of the upper halves, and of the lower ones.
__device__ __forceinline__ uint32_t max_of_halves(uint32_t a, uint32_t b) {
#if SHOAL_PACKED_INSTRUCTIONS
  uint32_t largest;
  asm("max.u16x2 %0, %1, %2;" : "=r"(largest) : "r"(a), "r"(b));
  return largest;
#else
  const uint32_t high = Max()(a & 0xFFFF0000u, b & 0xFFFF0000u), low = Max()(a & 0xFFFFu, b & 0xFFFFu);
  return high | low;
#endif
}

// The smaller of the upper halves, and of the lower ones, as signed numbers.
__device__ __forceinline__ uint32_t min_of_signed_halves(uint32_t a, uint32_t b) {
#if SHOAL_PACKED_INSTRUCTIONS
  uint32_t least;
  asm("min.s16x2 %0, %1, %2;" : "=r"(least) : "r"(a), "r"(b));
  return least;
#else
  const auto lesser = [](uint32_t x, uint32_t y) { return static_cast<int16_t>(x) < static_cast<int16_t>(y) ? x : y; };
  return lesser(a >> 16, b >> 16) << 16 | (lesser(a & 0xFFFFu, b & 0xFFFFu) & 0xFFFFu);
#endif
}

// The codes of four numbers that are finite or NaN, the first in the lowest byte.
__device__ __forceinline__ uint32_t encode_four(float a, float b, float c, float d) {
#if SHOAL_PACKED_INSTRUCTIONS
  uint32_t codes;
  asm("{\n"
      ".reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n"
      "}\n"
      : "=r"(codes)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return codes;
#else
  return E4M3::encode(a) | E4M3::encode(b) << 8 | E4M3::encode(c) << 16 | E4M3::encode(d) << 24;
#endif
}

// Of eight bytes, the lower word's first, those that the digits of `which` name.
__device__ __forceinline__ uint32_t pick_bytes(uint32_t lower, uint32_t upper, uint32_t which) {
#if SHOAL_PACKED_INSTRUCTIONS
  return __byte_perm(lower, upper, which);
#else
  const uint64_t bytes = uint64_t{upper} << 32 | lower;
  uint32_t picked = 0;
  for (int i = 0; i < 4; ++i)
    picked |= static_cast<uint32_t>(bytes >> ((which >> (4 * i) & 7u) * 8) & 0xFFu) << (8 * i);
  return picked;
#endif
}

// What four codes stand for, exactly: every E4M3 number is one of f16's.
__device__ __forceinline__ void decode_four(float (&to)[4], uint32_t codes) {
#if SHOAL_PACKED_INSTRUCTIONS
  asm("{\n"
      ".reg .b16 low, high, a, b, c, d;\n"
      ".reg .b32 first, second;\n"
      "mov.b32 {low, high}, %4;\n"
      "cvt.rn.f16x2.e4m3x2 first, low;\n"
      "cvt.rn.f16x2.e4m3x2 second, high;\n"
      "mov.b32 {a, b}, first;\n"
      "mov.b32 {c, d}, second;\n"
      "cvt.f32.f16 %0, a;\n"
      "cvt.f32.f16 %1, b;\n"
      "cvt.f32.f16 %2, c;\n"
      "cvt.f32.f16 %3, d;\n"
      "}\n"
      : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
      : "r"(codes));
#else
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = E4M3::decode(codes >> (8 * i) & 0xFFu);
#endif
}

// What two E5M6 codes stand for, in 24 bits: followed by four zeros they are f16's numbers.
__device__ __forceinline__ void decode_two_e5m6(float& first, float& second, uint32_t codes) {
#if SHOAL_PACKED_INSTRUCTIONS
  const uint32_t halves = (codes << 4 & 0x0000FFF0u) | (codes << 8 & 0xFFF00000u);
  asm("{\n"
      ".reg .b16 low, high;\n"
      "mov.b32 {low, high}, %2;\n"
      "cvt.f32.f16 %0, low;\n"
      "cvt.f32.f16 %1, high;\n"
      "}\n"
      : "=f"(first), "=f"(second)
      : "r"(halves));
#else
  first = E5M6::decode(codes & 0xFFFu);
  second = E5M6::decode(codes >> 12 & 0xFFFu);
#endif
}

// Logarithm and power of 2 by the GPU's table: an absolute error of 2^-22 near 1, a relative one of 2^-22 elsewhere.
// Subnormal numbers are zeros.
__device__ __forceinline__ float table_log2(float x) {
#if SHOAL_PACKED_INSTRUCTIONS
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return log2f(x < 0x1p-126f ? 0.0f : x);
#endif
}
__device__ __forceinline__ float table_exp2(float x) {
#if SHOAL_PACKED_INSTRUCTIONS
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return x < -126.0f ? 0.0f : exp2f(x);
#endif
}

// x * factor + offset between 0 and 1, times `units` and down to a whole number: at most 2^22, and only its lowest 23
// bits are meant. NaN is 0.
__device__ __forceinline__ uint32_t share_of(uint32_t units, float x, float factor, float offset) {
  const auto most = static_cast<float>(units);
#if SHOAL_PACKED_INSTRUCTIONS
  // Beyond 2^23 a number's last bit is a unit.
  float share, sum;
  asm("fma.rn.sat.f32 %0, %1, %2, %3;" : "=f"(share) : "f"(x), "f"(factor), "f"(offset));
  asm("fma.rz.f32 %0, %1, %2, 0f4B000000;" : "=f"(sum) : "f"(share), "f"(most));
  return std::bit_cast<uint32_t>(sum);
#else
  const float share = x * factor + offset;
  return share > 0 ? static_cast<uint32_t>((share < 1 ? share : 1.0f) * most) : 0;
#endif
}

// Two numbers as bf16, the first in the lower half. A NaN is what the GPU makes of one.
__device__ __forceinline__ uint32_t round_two(float first, float second) {
#if SHOAL_PACKED_INSTRUCTIONS
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return store<bfloat16>(first).bits | uint32_t{store<bfloat16>(second).bits} << 16;
#endif
}

// Rounded to T. A NaN is what a product makes of one: its sign and payload are the GPU's, and so is what they become.
template <class T>
__device__ __forceinline__ Words<kRunLength * sizeof(T) / 4> round_run(const Run<float>& from) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<Words<kRunLength>>(from);
  } else {
    Words<kRunLength / 2> pairs;
#pragma unroll
    for (int i = 0; i < kRunLength / 2; ++i) pairs[i] = round_two(from[2 * i], from[2 * i + 1]);
    return pairs;
  }
}

__device__ __forceinline__ int count_bits(uint32_t word) {
#if defined(__CUDA_ARCH__)
  return __popc(word);
#else
  return std::popcount(word);
#endif
}

}  // namespace shoal
