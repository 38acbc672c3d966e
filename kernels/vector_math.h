// kernels/vector_math.h: exp, log and sigmoid written so that loops over them vectorise.
//
// f32: range reduction and a polynomial, within 2 units in the last place of the exact value; results of exp below the
// smallest normal number (2^-126) are 0; Inf and NaN behave as in std::exp and std::log. f64 serves tests and calls
// those. Those of f32 are constexpr, so that device code may call them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace shoal {

[[gnu::always_inline]] constexpr float vector_exp(float x) {
  // n = round(x / ln 2): adding 1.5 * 2^23 leaves the integer in the low bits of the sum.
  constexpr float kRound = 12582912.0f;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  // ln 2 in two parts, the first short enough for an exact product.
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  // exp(r) = 1 + r + r² q(r) for |r| <= ln(2) / 2, q fitted for the least relative error (3e-9).
  float q = 1.381453825160861e-3f;
  q = q * r + 8.36874544620514e-3f;
  q = q * r + 4.166838899254799e-2f;
  q = q * r + 1.666652113199234e-1f;
  q = q * r + 4.999999403953552e-1f;
  const float p = q * (r * r) + r + 1.0f;
  // Times 2^n by adding n to the exponent: right wherever the result is a normal number; the rest is chosen below.
  const float scaled = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23));
  const float bounded = x <= 88.7228317f ? scaled : x + std::numeric_limits<float>::infinity();  // NaN stays NaN
  return x < -87.33654f ? 0.0f : bounded;
}
inline double vector_exp(double x) { return std::exp(x); }

[[gnu::always_inline]] constexpr float vector_log(float x) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  // Subnormal numbers are brought into the normal range first.
  const bool subnormal = x < 0x1p-126f;
  const float normal = subnormal ? x * 0x1p32f : x;
  // x = m * 2^n with m in [sqrt(1/2), sqrt(2)): subtracting sqrt(1/2) leaves n in the exponent's bits.
  // Unsigned, as the bits of negative numbers wrap around.
  constexpr uint32_t kRootHalf = 0x3F3504F3u;
  const uint32_t bits = std::bit_cast<uint32_t>(normal);
  const int32_t exponent = static_cast<int32_t>(bits - kRootHalf) >> 23;
  const float n = static_cast<float>(subnormal ? exponent - 32 : exponent);
  const float r = std::bit_cast<float>(bits - (static_cast<uint32_t>(exponent) << 23)) - 1.0f;
  // log(1 + r) = r - r² / 2 + r³ q(r), q as in Cephes' logf.
  float q = 7.0376836292e-2f;
  q = q * r - 1.1514610310e-1f;
  q = q * r + 1.1676998740e-1f;
  q = q * r - 1.2420140846e-1f;
  q = q * r + 1.4249322787e-1f;
  q = q * r - 1.6668057665e-1f;
  q = q * r + 2.0000714765e-1f;
  q = q * r - 2.4999993993e-1f;
  q = q * r + 3.3333331174e-1f;
  const float square = r * r;
  // ln 2 in two parts, the first short enough for an exact product.
  const float low = q * r * square - n * 2.12194440e-4f - 0.5f * square;
  const float finite = (r + low) + n * 0.693359375f;
  const float positive = x < kInf ? finite : x;  // Inf and NaN as they are
  const float special = x == 0.0f ? -kInf : std::numeric_limits<float>::quiet_NaN();
  return x <= 0.0f ? special : positive;
}
inline double vector_log(double x) { return std::log(x); }

// 1 / (1 + exp(-x)); keeps its relative precision in both tails.
template <class A>
[[gnu::always_inline]] inline A vector_sigmoid(A x) {
  return A{1} / (A{1} + vector_exp(-x));
}

}  // namespace shoal
