// kernels/vector_math.h: exp and sigmoid written so that loops over them vectorise.
//
// f32: range reduction and a polynomial, within 2 units in the last place of the exact value (subnormal results
// included); Inf and NaN behave as in std::exp. f64 serves tests and calls std::exp.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace shoal {

[[gnu::always_inline]] inline float vector_exp(float x) {
  // Beyond these the result is 0 or Inf whatever x is; NaN passes both comparisons.
  x = x < -105.0f ? -105.0f : x;
  x = x > 90.0f ? 90.0f : x;
  // n = round(x / ln 2): adding 1.5 * 2^23 leaves the integer in the low bits of the sum.
  constexpr float kRound = 12582912.0f;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  // ln 2 in two parts, the first short enough for an exact product.
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  // exp(r) for |r| <= ln(2) / 2, coefficients of Cephes' expf.
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that it neither overflows early nor skips the subnormals.
  const int32_t exponent = static_cast<int32_t>(std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound));
  const int32_t half = exponent >> 1;
  const float scale_1 = std::bit_cast<float>(static_cast<uint32_t>(half + 127) << 23);
  const float scale_2 = std::bit_cast<float>(static_cast<uint32_t>(exponent - half + 127) << 23);
  return p * scale_1 * scale_2;
}
inline double vector_exp(double x) { return std::exp(x); }

// 1 / (1 + exp(-x)), accurate in both tails.
template <class A>
[[gnu::always_inline]] inline A vector_sigmoid(A x) {
  const A e = vector_exp(x < 0 ? x : -x);
  const A numerator = x < 0 ? e : A{1};
  return numerator / (A{1} + e);
}

}  // namespace shoal
