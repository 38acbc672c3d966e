// tests/data/blend_test.cpp: the order of sources against Megatron's greedy rule, and the permutation.
#include "data/blend.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/check.h"
#include "data/permutation.h"

using namespace shoal;
using Catch::Matchers::Contains;

TEST_CASE("a blend follows the greedy rule, asked in any order") {
  const std::vector<double> weights = {0.5, 0.2, 0.3};  // normalised here; the blend is given multiples
  const Blend blend({5, 2, 3});
  std::vector<int64_t> counts(3, 0);
  std::vector<Blend::Draw> expected;
  for (int i = 0; i < 5000; ++i) {
    int best = 0;
    double best_lag = 0;
    for (int d = 0; d < 3; ++d) {
      volatile double share =
          weights[d] * std::max(i, 1);  // rounded here: a fused multiply-add would decide other ties
      const double lag = share - static_cast<double>(counts[d]);
      if (d == 0 || lag > best_lag) {
        best = d;
        best_lag = lag;
      }
    }
    expected.push_back({best, counts[best]++});
  }
  // Late draws first: nothing may depend on what was asked before.
  for (const int i : {4999, 0, 1023, 1024, 1025, 2048, 4097, 3, 17}) {
    CHECK(blend.at(i).source == expected[i].source);
    CHECK(blend.at(i).count == expected[i].count);
  }
  int wrong = 0;
  for (int i = 0; i < 5000; ++i) {
    wrong += blend.at(i).source != expected[i].source || blend.at(i).count != expected[i].count;
  }
  CHECK(wrong == 0);
  for (int d = 0; d < 3; ++d) CHECK(std::abs(static_cast<double>(counts[d]) - 5000 * weights[d]) <= 1);
}

TEST_CASE("one source is drawn in order") {
  const Blend blend({0.125});
  CHECK(blend.at(0).count == 0);
  CHECK(blend.at(int64_t{1} << 40).count == int64_t{1} << 40);
}

TEST_CASE("impossible weights are refused") {
  CHECK_THROWS_WITH(Blend({}), Contains("at least one source"));
  CHECK_THROWS_WITH(Blend({1, -2}), Contains("weight of source 1 is -2"));
  CHECK_THROWS_WITH(Blend({0, 1}), Contains("weight of source 0 is 0"));
  CHECK_THROWS_AS(Blend({std::nan("")}), Error);
  CHECK_THROWS_WITH(Blend({1e308, 1e308}), Contains("too large"));
}

TEST_CASE("a permutation visits everything once, and depends on seed and stream") {
  for (const int64_t size : {1, 2, 3, 4, 5, 16, 17, 1000, 4097}) {
    const Permutation permutation(7, 11, size);
    std::set<int64_t> seen;
    for (int64_t i = 0; i < size; ++i) {
      const int64_t image = permutation(i);
      CHECK((image >= 0 && image < size));
      seen.insert(image);
    }
    CHECK(static_cast<int64_t>(seen.size()) == size);
  }
  const auto images = [](uint64_t seed, uint64_t stream) {
    std::vector<int64_t> all;
    for (int64_t i = 0; i < 1000; ++i) all.push_back(Permutation(seed, stream, 1000)(i));
    return all;
  };
  CHECK(images(1, 1) == images(1, 1));
  CHECK(images(1, 1) != images(2, 1));
  CHECK(images(1, 1) != images(1, 2));
  CHECK(Permutation(1, 1, int64_t{1} << 62)(12345) < int64_t{1} << 62);
  CHECK_THROWS_WITH(Permutation(1, 1, 0), Contains("check failed"));
  CHECK_THROWS_WITH(Permutation(1, 1, 10)(10), Contains("10 of 10"));
}

TEST_CASE("a permutation is well mixed") {
  // The mean distance between the images of neighbours is n / 3 for a random permutation (deviation about n / 140
  // here), and the number of fixed points is about 1.
  constexpr int64_t kSize = 10'000;
  const Permutation permutation(3, 5, kSize);
  double distance = 0;
  int fixed = 0;
  for (int64_t i = 0; i < kSize; ++i) {
    distance += std::abs(static_cast<double>(permutation(i) - permutation((i + 1) % kSize)));
    fixed += permutation(i) == i;
  }
  CHECK(distance / kSize == Approx(kSize / 3.0).epsilon(0.03));
  CHECK(fixed < 8);
}
