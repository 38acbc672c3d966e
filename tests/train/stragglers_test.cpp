// tests/train/stragglers_test.cpp: a rank that is slow for many steps is named, one that is slow now and then is not.
#include "core/train/stragglers.h"

#include <catch2/catch.hpp>

using Catch::Matchers::Contains;
using Catch::Matchers::Equals;

namespace shoal {

TEST_CASE("a rank that is slow step after step is named once in many steps") {
  StragglerWatch watch;
  int64_t step = 0;
  for (int i = 0; i < 9; ++i) CHECK(watch.add(++step, {0.1, 0.101, 0.14, 0.099}, 0.15).empty());
  CHECK_THAT(watch.add(++step, {0.1, 0.101, 0.14, 0.099}, 0.15),
             Equals("rank 2 is slow: 140 ms of its own a step, 1.40 times the median rank's, in the last 10 steps"));
  for (int i = 0; i < 199; ++i) CHECK(watch.add(++step, {0.1, 0.101, 0.14, 0.099}, 0.15).empty());
  CHECK_THAT(watch.add(++step, {0.1, 0.101, 0.14, 0.099}, 0.15), Contains("rank 2 is slow"));
}

TEST_CASE("of two ranks the slower one is named, and several at once") {
  StragglerWatch two, six;
  std::string of_two, of_six;
  for (int64_t step = 1; step <= 10; ++step) {
    of_two = two.add(step, {0.2, 0.1}, 0.21);
    of_six = six.add(step, {0.1, 0.1, 0.3, 0.1, 0.1, 0.4}, 0.4);
  }
  CHECK_THAT(of_two, Contains("rank 0 is slow"));
  CHECK_THAT(of_six, Contains("rank 2 is slow") && Contains("; rank 5 is slow"));
}

TEST_CASE("nobody is named for a few slow steps, for little, or alone") {
  StragglerWatch some, little, alone;
  for (int64_t step = 1; step <= 100; ++step) {
    CHECK(some.add(step, {0.1, step % 3 == 0 ? 0.5 : 0.1, 0.1}, 0.2).empty());
    CHECK(little.add(step, {0.1, 0.12, 0.1}, 0.12).empty());
    CHECK(alone.add(step, {0.1}, 0.1).empty());
  }
}

TEST_CASE("in steps of a few milliseconds chance decides, and behind a slow wire nobody gains: no one is named") {
  StragglerWatch tiny, just, waiting;
  std::string named;
  for (int64_t step = 1; step <= 100; ++step) {
    CHECK(tiny.add(step, {0.002, 0.006, 0.002}, 0.007).empty());
    CHECK(waiting.add(step, {0.01, 0.03, 0.01}, 0.5).empty());
    if (step <= 10) named += just.add(step, {0.002, 0.008, 0.002}, 0.009);
  }
  CHECK_THAT(named, Contains("rank 1 is slow: 8 ms of its own a step, 4.00 times"));
}

}  // namespace shoal
