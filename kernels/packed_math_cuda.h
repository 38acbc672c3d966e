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

// Rounded to T. A NaN is what a product makes of one: its sign and payload are the GPU's, and so is what they become.
template <class T>
__device__ __forceinline__ Words<kRunLength * sizeof(T) / 4> round_run(const Run<float>& from) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<Words<kRunLength>>(from);
  } else {
    Words<kRunLength / 2> pairs;
#pragma unroll
    for (int i = 0; i < kRunLength / 2; ++i) {
#if SHOAL_PACKED_INSTRUCTIONS
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pairs[i]) : "f"(from[2 * i + 1]), "f"(from[2 * i]));
#else
      pairs[i] = store<bfloat16>(from[2 * i]).bits | uint32_t{store<bfloat16>(from[2 * i + 1]).bits} << 16;
#endif
    }
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
