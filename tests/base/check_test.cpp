// tests/base/check_test.cpp: what a failed check and a failure say.
#include "core/base/check.h"

#include <catch2/catch.hpp>

using Catch::Matchers::Contains;
using Catch::Matchers::Equals;
using Catch::Matchers::StartsWith;

namespace shoal {

namespace {
std::string message_of(void (*f)()) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}
}  // namespace

TEST_CASE("a failed check names the file as the repository sees it, the line, the condition and the values") {
  const std::string text = message_of([] { SHOAL_CHECK(1 + 1 == 3, "rows {}", 7); });
  REQUIRE_THAT(text, StartsWith("tests/base/check_test.cpp:"));
  REQUIRE_THAT(text, Contains("check failed: 1 + 1 == 3 (rows 7)"));
  REQUIRE_THAT(message_of([] { SHOAL_CHECK(false); }), Contains("check failed: false"));
}

TEST_CASE("an unequal pair prints both sides and evaluates each once") {
  REQUIRE_THAT(message_of([] { SHOAL_CHECK_EQ(2 + 3, 6); }), Contains("2 + 3 == 6 (5 vs 6)"));
  int calls = 0;
  const auto count = [&] { return ++calls; };
  SHOAL_CHECK_EQ(count(), 1);
  REQUIRE(calls == 1);
}

TEST_CASE("a failure is its message, nothing else") {
  REQUIRE_THAT(message_of([] { fail("{}: line {}: expected {}", "a.textproto", 3, "a number"); }),
               Equals("a.textproto: line 3: expected a number"));
}

TEST_CASE("a check in an if needs no braces") {
  const auto f = [](bool inner) {
    if (inner)
      SHOAL_CHECK(true);
    else
      return 2;
    return 1;
  };
  REQUIRE(f(true) == 1);
  REQUIRE(f(false) == 2);
}

}  // namespace shoal
