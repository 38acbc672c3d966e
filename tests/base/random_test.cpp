// tests/base/random_test.cpp: Philox against Random123's published vectors, and the draws made from it.
#include "core/base/random.h"

#include <catch2/catch.hpp>

#include <set>
#include <vector>

namespace shoal {

namespace {
using Words = std::array<uint32_t, 4>;
}

TEST_CASE("philox4x32-10 gives the known answers of Random123") {
  // Counter words: counter (low, high), stream (low, high). Key words: seed (low, high).
  REQUIRE(CounterRandom(0, 0).words(0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const uint64_t ones = ~uint64_t{0};
  REQUIRE(CounterRandom(ones, ones).words(ones) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  REQUIRE(CounterRandom(0x299f31d0a4093822, 0x0370734413198a2e).words(0x85a308d3243f6a88) ==
          Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("streams are FNV-1a of their names") {
  STATIC_REQUIRE(stream_of("") == 0xcbf29ce484222325u);
  STATIC_REQUIRE(stream_of("a") == 0xaf63dc4c8601ec8cu);
  STATIC_REQUIRE(stream_of("foobar") == 0x85944171f73967e8u);
}

TEST_CASE("seed, stream and counter each change the draw") {
  const std::set<uint64_t> draws{CounterRandom(1, 1).bits(1),
                                 CounterRandom(2, 1).bits(1),
                                 CounterRandom(1, 2).bits(1),
                                 CounterRandom(1, 1).bits(2),
                                 CounterRandom(1, 1).bits(uint64_t{1} << 32),
                                 CounterRandom(uint64_t{1} << 32, 1).bits(1)};
  REQUIRE(draws.size() == 6);
  REQUIRE(CounterRandom(7, 9).bits(11) == CounterRandom(7, 9).bits(11));
}

TEST_CASE("uniforms lie in [0, 1) with the moments of a uniform") {
  const CounterRandom random(3, stream_of("test/uniform"));
  constexpr int kDraws = 100000;
  double sum = 0;
  double squares = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = random.uniform(i);
    REQUIRE((u >= 0 && u < 1));
    sum += u;
    squares += u * u;
  }
  // Five standard errors.
  REQUIRE(std::abs(sum / kDraws - 0.5) < 5 * 0.2887 / std::sqrt(kDraws));
  REQUIRE(std::abs(squares / kDraws - 1.0 / 3) < 5 * 0.2981 / std::sqrt(kDraws));
}

TEST_CASE("normals have the moments of a normal") {
  const CounterRandom random(4, stream_of("test/normal"));
  constexpr int kDraws = 100000;
  std::array<double, 5> moments{};
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double x = random.normal(i);
    REQUIRE(std::isfinite(x));
    for (size_t k = 1; k < moments.size(); ++k) moments[k] += std::pow(x, static_cast<double>(k)) / kDraws;
  }
  const double error = 5 / std::sqrt(kDraws);
  REQUIRE(std::abs(moments[1]) < error);
  REQUIRE(std::abs(moments[2] - 1) < error * std::sqrt(2.0));
  REQUIRE(std::abs(moments[3]) < error * std::sqrt(15.0));
  REQUIRE(std::abs(moments[4] - 3) < error * std::sqrt(96.0));
}

TEST_CASE("bounded draws reach every value about equally and nothing else") {
  const CounterRandom random(5, stream_of("test/below"));
  constexpr uint64_t kBound = 7;
  constexpr int kDraws = 70000;
  std::array<int, kBound> counts{};
  for (uint64_t i = 0; i < kDraws; ++i) {
    const uint64_t value = random.below(kBound, i);
    REQUIRE(value < kBound);
    ++counts[value];
  }
  for (const int count : counts) REQUIRE(std::abs(count - 10000) < 5 * 93);
  REQUIRE(random.below(1, 0) == 0);
  REQUIRE(random.below(~uint64_t{0}, 1) < ~uint64_t{0});
}

}  // namespace shoal
