// tests/data/regex_test.cpp: Oniguruma's patterns mean to PCRE2 what they say, or are refused.
#include "data/regex.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "data/nfc.h"
#include "data/regex_syntax.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

std::vector<std::string> matches(const std::string& pattern, std::string_view text) {
  const Regex regex(pattern, "here");
  Regex::Scratch scratch;
  Regex::Match match;
  std::vector<std::string> found;
  for (size_t from = 0; from <= text.size() && regex.find(text, from, scratch, match);
       from = std::max(match.end, match.begin + 1)) {
    found.emplace_back(text.substr(match.begin, match.end - match.begin));
  }
  return found;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("white space is Unicode's, without U+180E") {
  const std::string text = "a \t\u00A0\u2003\u3000\u0085\u180E\u200Bb";
  CHECK(matches(R"(\s+)", text) == Strings{" \t\u00A0\u2003\u3000\u0085"});
  CHECK(matches(R"([\s]+)", text) == matches(R"(\s+)", text));
  CHECK(matches(R"(\S+)", text) == Strings{"a", "\u180E\u200Bb"});
  CHECK(matches(R"([\S]+)", text) == matches(R"(\S+)", text));
  CHECK(matches(R"([^\s]+)", text) == matches(R"(\S+)", text));
  CHECK(matches(R"([^\S]+)", text) == matches(R"(\s+)", text));
}

TEST_CASE("escapes mean what they mean to Oniguruma") {
  CHECK(matches(R"(\u4E2D|\x{6587}|\x41)", "A\u4E2D\u6587") == Strings{"A", "\u4E2D", "\u6587"});
  CHECK(matches(R"(a\v)", "a\x0B a\n") == Strings{"a\x0B"});
  CHECK(matches(R"([\-\]\[]+)", "a-[]") == Strings{"-[]"});
  CHECK(matches(R"([\r\n\t]+\d?)", "a\r\n\t1") == Strings{"\r\n\t1"});
}

TEST_CASE("lines have ends and beginnings, and a look-behind sees no more than the text") {
  CHECK(matches("^b$", "a\nb\nc") == Strings{"b"});
  CHECK(matches(".+", "a\r\nb") == Strings{"a\r", "b"});
  CHECK(matches("(?<!a)b", "ab bb") == Strings{"b", "b"});
  CHECK(matches("(?i:k)+", "Kk\u212A") == Strings{"Kk\u212A"});
  CHECK(matches(R"(\p{N}{1,3}|x{2,}|y{2})", "1234xxxyyy") == Strings{"123", "4", "xxx", "yy"});
}

TEST_CASE("what would mean something else is refused, with the place in the pattern") {
  const auto error_of = [](const std::string& pattern) -> std::string {
    try {
      Regex(pattern, "here");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  for (const char* pattern :
       {R"(\w)", R"(\b)", R"(\h)", R"(\R)", R"(\X)", R"(\K)", R"(\G)", R"(\1)", R"(\Q)", R"(\C)"}) {
    CHECK_THAT(error_of(pattern), Contains("here: cannot use \"" + std::string(pattern)));
  }
  CHECK_THAT(error_of("[a&&b]"), Contains("at byte 2") && Contains("intersections"));
  CHECK_THAT(error_of("[a[b]]"), Contains("a bracket inside a class"));
  CHECK_THAT(error_of("[]a]"), Contains("closing bracket"));
  CHECK_THAT(error_of("[a"), Contains("a class has no end"));
  CHECK_THAT(error_of("[\\"), Contains("cannot use"));
  CHECK_THAT(error_of("a\\"), Contains("cannot use"));
  CHECK_THAT(error_of("(?i)a"), Contains("Shoal knows the groups"));
  CHECK_THAT(error_of("(?<name>a)"), Contains("Shoal knows the groups"));
  CHECK_THAT(error_of("(*LIMIT_MATCH=1)a"), Contains("verbs"));
  CHECK_THAT(error_of("a{2}+"), Contains("possessive"));
  CHECK_THAT(error_of("a{2}?"), Contains("lazy"));
  CHECK_THAT(error_of("a{,2}"), Contains("expected a repeat"));
  CHECK_THAT(error_of("a{x"), Contains("expected a repeat"));
  CHECK_THAT(error_of(R"(\xE9)"), Contains("a byte, not a character"));
  CHECK_THAT(error_of(R"(\x{D800})"), Contains("expected a code point"));
  CHECK_THAT(error_of(R"(\x{110000})"), Contains("expected a code point"));
  CHECK_THAT(error_of(R"(\x{)"), Contains("expected a code point"));
  CHECK_THAT(error_of(R"(\u12)"), Contains("expected a code point"));
  CHECK_THAT(error_of(R"(\pL)"), Contains("NAME"));
  CHECK_THAT(error_of(R"(\p{Klingon})"), Contains("expected a regular expression"));
  CHECK_THAT(error_of("a{99999999999}"), Contains("expected a regular expression"));
  CHECK_THAT(error_of(std::string(70'000, 'a')), Contains("70000 bytes"));
  CHECK_THAT(error_of(std::string(1000, '(') + std::string(1000, ')')), Contains("expected a regular expression"));
}

TEST_CASE("a pattern that backtracks without end is an error, not a hang") {
  const Regex regex("(?:a+)+b", "here");
  Regex::Scratch scratch;
  Regex::Match match;
  CHECK_THROWS_WITH(regex.find(std::string(40, 'a') + "cb", 0, scratch, match), Contains("backtracks too much"));
}

TEST_CASE("NFC joins what can be joined and leaves the rest") {
  CHECK(to_nfc("") == "");
  CHECK(to_nfc("plain caf\u00E9\n") == "plain caf\u00E9\n");
  CHECK(to_nfc("cafe\u0301 e\u0301e\u0301") == "caf\u00E9 \u00E9\u00E9");
  CHECK(to_nfc("\u0301a") == "\u0301a");
  CHECK(to_nfc("\u1100\u1161\u11A8") == "\uAC01");
  CHECK(to_nfc("x\u0323y \u1E9B\u0323") == "x\u0323y \u1E9B\u0323");
  CHECK(to_nfc("q\u0307\u0323 \u212A") == "q\u0323\u0307 K");
  CHECK(to_nfc("\u00E9\u0323") == "\u1EB9\u0301");
}
