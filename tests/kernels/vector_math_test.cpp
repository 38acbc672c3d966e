// tests/kernels/vector_math_test.cpp: the polynomials against the C library in double precision.
#include "kernels/vector_math.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>

namespace shoal {
namespace {

// |value - exact| in units of the last place of an f32 of that size.
double ulps(float value, double exact) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::abs(static_cast<double>(value) - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

TEST_CASE("f32 exp is within two units in the last place wherever the result is a normal number") {
  double worst = 0;
  for (int i = 0; i <= 2'000'000; ++i) {
    const float x = -87.3365f + 176.0593f * static_cast<float>(i) / 2'000'000.0f;
    worst = std::max(worst, ulps(vector_exp(x), std::exp(static_cast<double>(x))));
  }
  for (int i = 0; i <= 100'000; ++i) {
    const float x = static_cast<float>(i - 50'000) * 1e-6f;
    worst = std::max(worst, ulps(vector_exp(x), std::exp(static_cast<double>(x))));
  }
  CAPTURE(worst);
  CHECK(worst <= 2.0);
}

TEST_CASE("f32 exp treats the ends of the line as the C library does") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  CHECK(vector_exp(0.0f) == 1.0f);
  CHECK(vector_exp(-0.0f) == 1.0f);
  CHECK(vector_exp(kInf) == kInf);
  CHECK(vector_exp(89.0f) == kInf);
  CHECK(vector_exp(88.7228317f) == Approx(std::exp(88.7228317f)).epsilon(1e-6));  // the last one before Inf
  CHECK(vector_exp(std::nextafter(88.7228317f, 89.0f)) == kInf);
  CHECK(vector_exp(-87.4f) == 0.0f);
  CHECK(vector_exp(-kInf) == 0.0f);
  CHECK(vector_exp(-110.0f) == 0.0f);
  CHECK(vector_exp(std::numeric_limits<float>::lowest()) == 0.0f);
  CHECK(std::isnan(vector_exp(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(vector_exp(-std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(vector_exp(std::bit_cast<float>(0x7fc00001u))));  // a payload in the bits that scale
}

TEST_CASE("f32 log is within two units in the last place, subnormal numbers included") {
  double worst = 0;
  const auto check = [&](float x) { worst = std::max(worst, ulps(vector_log(x), std::log(static_cast<double>(x)))); };
  for (uint32_t bits = 1; bits < 0x7F800000u; bits += 997) check(std::bit_cast<float>(bits));
  for (int i = -100'000; i <= 100'000; ++i) check(1.0f + static_cast<float>(i) * 1e-6f);
  CAPTURE(worst);
  CHECK(worst <= 2.0);
}

TEST_CASE("f32 log treats the ends of the line as the C library does") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  CHECK(vector_log(1.0f) == 0.0f);
  CHECK(vector_log(0.0f) == -kInf);
  CHECK(vector_log(-0.0f) == -kInf);
  CHECK(vector_log(kInf) == kInf);
  CHECK(std::isnan(vector_log(-1.0f)));
  CHECK(std::isnan(vector_log(-kInf)));
  CHECK(std::isnan(vector_log(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(vector_log(-std::numeric_limits<float>::quiet_NaN())));
  CHECK(vector_log(2.5) == std::log(2.5));
}

TEST_CASE("sigmoid keeps its relative precision in both tails") {
  double worst = 0;
  for (int i = 0; i <= 1'000'000; ++i) {
    const float x = -87.0f + 174.0f * static_cast<float>(i) / 1'000'000.0f;
    worst = std::max(worst, ulps(vector_sigmoid(x), 1.0 / (1.0 + std::exp(-static_cast<double>(x)))));
  }
  CAPTURE(worst);
  CHECK(worst <= 3.5);
  CHECK(vector_sigmoid(0.0f) == 0.5f);
  CHECK(vector_sigmoid(std::numeric_limits<float>::infinity()) == 1.0f);
  CHECK(vector_sigmoid(-std::numeric_limits<float>::infinity()) == 0.0f);
  CHECK(std::isnan(vector_sigmoid(std::numeric_limits<float>::quiet_NaN())));
  CHECK(vector_sigmoid(-700.0) == Approx(std::exp(-700.0)));
}

}  // namespace
}  // namespace shoal
