// tests/base/bfloat16_test.cpp: every code there and back, every rounding decision.
#include "core/base/bfloat16.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

namespace shoal {

namespace {

constexpr uint32_t kInf = 0x7F80;  // positive codes above are NaN

uint16_t rounded(float value) { return bfloat16(value).bits; }
float from_float_bits(uint32_t bits) { return std::bit_cast<float>(bits); }

}  // namespace

TEST_CASE("all 65536 bf16 codes survive the trip through f32; a NaN comes back quiet, with its sign") {
  int wrong = 0;
  for (uint32_t code = 0; code <= 0xFFFF; ++code) {
    const float value = static_cast<float>(bfloat16::from_bits(static_cast<uint16_t>(code)));
    const bool is_nan = (code & 0x7FFF) > kInf;
    if (std::isnan(value) != is_nan) ++wrong;
    if (rounded(value) != (is_nan ? (code | 0x40) : code)) ++wrong;
  }
  REQUIRE(wrong == 0);
}

TEST_CASE("f32 rounds to the nearest bf16, ties to the even code, subnormals and the step to infinity included") {
  int wrong = 0;
  for (uint32_t sign : {0x0000u, 0x8000u}) {
    for (uint32_t code = 0; code < kInf; ++code) {
      const uint32_t below = sign | code;
      const uint32_t above = below + 1;  // the next magnitude; infinity behind the largest
      const uint32_t middle = (below << 16) | 0x8000u;
      const uint32_t even = (code & 1) == 0 ? below : above;
      if (rounded(from_float_bits(middle)) != even) ++wrong;
      if (rounded(from_float_bits(middle - 1)) != below) ++wrong;
      if (rounded(from_float_bits(middle + 1)) != above) ++wrong;
      if (rounded(from_float_bits((below << 16) | 1u)) != below) ++wrong;
      if (rounded(from_float_bits((below << 16) | 0xFFFFu)) != above) ++wrong;
    }
  }
  REQUIRE(wrong == 0);
}

TEST_CASE("infinities stay, and no NaN becomes an infinity") {
  const float inf = std::numeric_limits<float>::infinity();
  REQUIRE(rounded(inf) == 0x7F80);
  REQUIRE(rounded(-inf) == 0xFF80);
  // A NaN whose payload lies in the dropped half only.
  REQUIRE(rounded(from_float_bits(0x7F800001u)) == 0x7FC0);
  REQUIRE(rounded(from_float_bits(0xFFFFFFFFu)) == 0xFFFF);
  REQUIRE(std::isnan(static_cast<float>(bfloat16(from_float_bits(0x7F80FFFFu)))));
}

TEST_CASE("bf16 compares as its value does") {
  REQUIRE(bfloat16(0.0f) == bfloat16(-0.0f));
  REQUIRE(bfloat16(1.0f) == bfloat16(1.0f + 0x1p-9f));
  const bfloat16 nan(std::numeric_limits<float>::quiet_NaN());
  REQUIRE_FALSE(nan == nan);
}

TEST_CASE("load and store spell element access for every storage type") {
  REQUIRE(load(bfloat16(1.5f)) == 1.5f);
  REQUIRE(load(2.5) == 2.5);
  REQUIRE(store<bfloat16>(3.0f).bits == 0x4040);
  REQUIRE(store<double>(0.5f) == 0.5);
}

}  // namespace shoal
