// tests/base/float8_test.cpp: every code of the small formats, and every rounding decision, against a model in double.
#include "core/base/float8.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/bfloat16.h"

namespace shoal {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// The formats as their papers define them. Positive codes are ordered as their values are, so a value's place in the
// table is its code.
struct Model {
  int exponent_bits, mantissa_bits;
  bool is_ieee;                // the top exponent is infinity and NaN; else only its last code is NaN
  std::vector<double> values;  // finite and not negative, ascending

  Model(int exponents, int mantissas, bool ieee) : exponent_bits(exponents), mantissa_bits(mantissas), is_ieee(ieee) {
    const int bias = (1 << (exponents - 1)) - 1, num_exponents = 1 << exponents, num_mantissas = 1 << mantissas;
    for (int exponent = 0; exponent < num_exponents; ++exponent) {
      for (int mantissa = 0; mantissa < num_mantissas; ++mantissa) {
        const bool is_top = exponent == num_exponents - 1;
        if (is_top && (ieee || mantissa == num_mantissas - 1)) continue;
        values.push_back(exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissas)
                                       : std::ldexp(num_mantissas + mantissa, exponent - bias - mantissas));
      }
    }
  }

  uint32_t sign() const { return 1u << (exponent_bits + mantissa_bits); }
  uint32_t largest() const { return static_cast<uint32_t>(values.size()) - 1; }
  bool is_infinity(uint32_t code) const { return is_ieee && (code & (sign() - 1)) == largest() + 1; }
  bool is_nan(uint32_t code) const { return (code & (sign() - 1)) > largest() && !is_infinity(code); }

  // The code of a number's nearest value, of two the even one.
  uint32_t nearest(double value) const {
    const uint32_t negative = std::signbit(value) ? sign() : 0;
    const double size = std::abs(value);
    const auto above = std::upper_bound(values.begin(), values.end(), size);
    if (above == values.end()) return negative | largest();
    const uint32_t upper = static_cast<uint32_t>(above - values.begin());
    const double to_upper = *above - size, to_lower = size - values[upper - 1];
    if (to_upper == to_lower) return negative | (upper % 2 == 0 ? upper : upper - 1);
    return negative | (to_upper < to_lower ? upper : upper - 1);
  }

  // Whether `code` stands for `value`, a NaN or an infinity perhaps.
  bool stands_for(uint32_t code, double value) const {
    if (code >= 2 * sign()) return false;
    const bool same_sign = (code >= sign()) == std::signbit(value);
    if (std::isnan(value) || (std::isinf(value) && !is_ieee)) return same_sign && is_nan(code);
    if (std::isinf(value)) return same_sign && is_infinity(code);
    return code == nearest(value);
  }
};

template <class Format>
Model model();
template <>
Model model<E4M3>() {
  return {4, 3, false};
}
template <>
Model model<E5M2>() {
  return {5, 2, true};
}
template <>
Model model<E5M6>() {
  return {5, 6, true};
}

// How many of ±value and the two f32 next to it are encoded wrongly.
template <class Format>
int wrong_around(const Model& formats, float value) {
  int wrong = 0;
  for (const float size : {std::nextafter(value, 0.0f), value, std::nextafter(value, HUGE_VALF)}) {
    for (const float x : {size, -size}) wrong += !formats.stands_for(Format::encode(x), x);
  }
  return wrong;
}

}  // namespace

TEMPLATE_TEST_CASE("every small float decodes to its value and comes back as its code", "", E4M3, E5M2, E5M6) {
  const Model expected = model<TestType>();
  const uint32_t sign = expected.sign();
  REQUIRE(TestType::kBits == 1 + expected.exponent_bits + expected.mantissa_bits);
  REQUIRE(static_cast<double>(TestType::largest()) == expected.values.back());
  int wrong = 0;
  for (uint32_t code = 0; code < 2 * sign; ++code) {
    const double value = TestType::decode(code);
    const uint32_t size = code & (sign - 1);
    if (std::signbit(value) != (code >= sign)) ++wrong;
    if (expected.is_nan(code)) {
      if (!std::isnan(value)) ++wrong;
      if (!expected.is_nan(TestType::encode(TestType::decode(code)))) ++wrong;
      continue;
    }
    if (std::abs(value) != (expected.is_infinity(code) ? kInf : expected.values[size])) ++wrong;
    if (TestType::encode(TestType::decode(code)) != code) ++wrong;
  }
  REQUIRE(wrong == 0);
}

TEMPLATE_TEST_CASE("every bf16 is encoded as its nearest small float", "", E4M3, E5M2, E5M6) {
  const Model expected = model<TestType>();
  int wrong = 0;
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const float value = static_cast<float>(bfloat16::from_bits(static_cast<uint16_t>(bits)));
    wrong += !expected.stands_for(TestType::encode(value), value);
  }
  REQUIRE(wrong == 0);
}

TEMPLATE_TEST_CASE("f32 at, just below and just above every value and every middle between two", "", E4M3, E5M2, E5M6) {
  const Model expected = model<TestType>();
  int wrong = 0;
  for (size_t code = 0; code < expected.values.size(); ++code) {
    wrong += wrong_around<TestType>(expected, static_cast<float>(expected.values[code]));
    if (code == 0) continue;
    const double middle = (expected.values[code - 1] + expected.values[code]) / 2;
    REQUIRE(static_cast<double>(static_cast<float>(middle)) == middle);
    wrong += wrong_around<TestType>(expected, static_cast<float>(middle));
  }
  REQUIRE(wrong == 0);
}

TEMPLATE_TEST_CASE("numbers beyond the largest saturate, and nothing else becomes or stops being a number", "", E4M3,
                   E5M2, E5M6) {
  const Model expected = model<TestType>();
  const float largest = static_cast<float>(expected.values.back());
  int wrong = 0;
  // Powers of two over f32's whole range, its subnormals included, and what would round up to the next exponent.
  for (int exponent = -149; exponent <= 127; ++exponent) {
    wrong += wrong_around<TestType>(expected, std::ldexp(1.0f, exponent));
    wrong += wrong_around<TestType>(expected, std::ldexp(1.96875f, exponent));
  }
  for (float beyond = largest; beyond < 4 * largest; beyond += largest / 64) {
    wrong += wrong_around<TestType>(expected, beyond);
  }
  wrong += wrong_around<TestType>(expected, std::numeric_limits<float>::max());
  wrong += wrong_around<TestType>(expected, 0.0f);
  REQUIRE(wrong == 0);

  REQUIRE(TestType::encode(0.0f) == 0);
  REQUIRE(TestType::encode(-0.0f) == expected.sign());
  REQUIRE(TestType::encode(std::numeric_limits<float>::max()) == expected.largest());
  // NaN of any payload and either sign.
  for (uint32_t payload = 1; payload < 0x800000u; payload = payload * 3 + 1) {
    for (const uint32_t bits : {0x7F800000u | payload, 0xFF800000u | payload}) {
      const uint32_t code = TestType::encode(std::bit_cast<float>(bits));
      wrong += !expected.is_nan(code) || code >= 2 * expected.sign() || (code >= expected.sign()) != (bits >> 31 != 0);
    }
  }
  REQUIRE(wrong == 0);
}

TEST_CASE("infinity stays infinity where there is one, else it is NaN") {
  const float inf = std::numeric_limits<float>::infinity();
  REQUIRE(E4M3::encode(inf) == 0x7F);
  REQUIRE(E4M3::encode(-inf) == 0xFF);
  REQUIRE(E5M2::encode(inf) == 0x7C);
  REQUIRE(E5M2::encode(-inf) == 0xFC);
  REQUIRE(E5M6::encode(inf) == 0x7C0);
  REQUIRE(E5M6::encode(-inf) == 0xFC0);
}

TEST_CASE("bf16 holds every E4M3") {
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = E4M3::decode(code);
    if (std::isnan(value)) continue;
    CAPTURE(code);
    REQUIRE(static_cast<float>(bfloat16(value)) == value);
  }
}

TEST_CASE("an element of an e4m3 tensor reads and writes as its format does") {
  REQUIRE(float8_e4m3(1.0f).bits == 0x38);
  REQUIRE(float8_e4m3(-448.0f).bits == 0xFE);
  REQUIRE(float8_e4m3().bits == 0);
  REQUIRE(load(store<float8_e4m3>(0.4f)) == 0.40625f);
}

}  // namespace shoal
