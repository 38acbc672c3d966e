// tests/fuzz/corpus_test.cpp: every parser on its hostile files, cut short and with bits flipped: each is
// read, or refused in a sentence.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>
#include <set>

#include "tests/fuzz/parser.h"

using namespace shoal;

namespace {

// Lengths at which a seed is cut: all of a short one, some of a longer.
std::vector<size_t> cuts_of(const std::string& seed) {
  constexpr size_t kMost = 100;
  std::vector<size_t> cuts;
  const size_t stride = std::max<size_t>(1, seed.size() / kMost);
  for (size_t length = 0; length < seed.size(); length += stride) cuts.push_back(length);
  return cuts;
}

}  // namespace

TEST_CASE("every parser says what is wrong with a hostile file", "[fuzz]") {
  for (const fuzz::Parser& parser : fuzz::parsers()) {
    const std::vector<fuzz::Seed> seeds = parser.seeds();
    for (size_t s = 0; s < seeds.size(); ++s) {
      if (!seeds[s].says) continue;
      INFO(parser.name << ", seed " << s << ": " << seeds[s].bytes.substr(0, 400));
      const std::string answer = fuzz::answer_of(parser, seeds[s].bytes);
      if (seeds[s].says->empty()) {
        CHECK(answer == "");
      } else {
        CHECK_THAT(answer, Catch::Matchers::Contains(*seeds[s].says));
      }
    }
  }
}

TEST_CASE("every parser reads or refuses hostile files", "[fuzz]") {
  REQUIRE(fuzz::parsers().size() >= 15);
  std::set<std::string> names;
  for (const fuzz::Parser& parser : fuzz::parsers()) {
    INFO(parser.name);
    CHECK(names.insert(parser.name).second);
    const std::vector<fuzz::Seed> seeds = parser.seeds();
    CHECK(seeds.size() >= 4);
    std::mt19937 random(7);  // not of the standard library's distributions: the same files everywhere
    for (size_t s = 0; s < seeds.size(); ++s) {
      INFO("seed " << s);
      const std::string& seed = seeds[s].bytes;
      CHECK(fuzz::survives(parser, seed));
      for (const size_t length : cuts_of(seed)) {
        INFO("cut to " << length);
        CHECK(fuzz::survives(parser, seed.substr(0, length)));
      }
      if (seed.empty()) continue;
      for (int flip = 0; flip < 60; ++flip) {
        std::string damaged = seed;
        const size_t at = random() % std::min<size_t>(seed.size(), 4096);
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
        INFO("bit flip " << flip << " at byte " << at);
        CHECK(fuzz::survives(parser, damaged));
      }
    }
  }
}
