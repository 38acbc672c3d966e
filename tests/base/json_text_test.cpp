// tests/base/json_text_test.cpp: JSON of files that nobody vouches for.
#include "core/base/json_text.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/base/check.h"

using namespace shoal;
using Catch::Matchers::Contains;

TEST_CASE("a sound document is read", "[json]") {
  const nlohmann::json read = parse_json(R"({"a":[1,{"a":2}],"b":{"a":"\u00e9"}})", "x.json");
  CHECK(read == nlohmann::json::parse(R"({"a":[1,{"a":2}],"b":{"a":"\u00e9"}})"));
  CHECK(parse_json(" 1 ", "x.json") == 1);
}

TEST_CASE("hostile documents are refused, by name and in few words", "[json]") {
  const auto refused = [](const std::string& text, const std::string& says) {
    INFO(text.substr(0, 80));
    CHECK_THROWS_WITH(parse_json(text, "x.json"), Contains("x.json: ") && Contains(says));
    try {
      parse_json(text, "x.json");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).size() < 400);
    }
  };
  refused("", "is not JSON");
  refused("{", "is not JSON: line 1, column 2");
  refused("{\"" + std::string(100000, 'a'), "is not JSON: line 1");
  refused("\"\xff\"", "ill-formed UTF-8");
  refused("1e999", "is not JSON: number overflow parsing '1e999'");
  refused(std::string("{}\0{}", 5), "byte 2 is NUL");
  refused(R"({"a":1,"b":2,"a":3})", "the member \"a\" appears twice");
  refused(R"([{"a":{"b":1,"\u0062":2}}])", "the member \"b\" appears twice");
  for (const char* open : {"[", "{\"a\":"}) {
    std::string deep;
    for (int i = 0; i < 100000; ++i) deep += open;
    refused(deep, "nested more than 64 deep");
  }
  CHECK_NOTHROW(parse_json(std::string(64, '[') + std::string(64, ']'), "x.json"));
  refused(std::string(65, '[') + std::string(65, ']'), "nested more than 64 deep");
}

TEST_CASE("messages show the beginning of a long text, whole characters of it", "[json]") {
  CHECK(shown_text("abc", 3) == "abc");
  CHECK(shown_text("abcd", 3) == "abc…");
  CHECK(shown_text("ab\u00e9d", 3) == "ab…");
  CHECK(shown_text("\u00e9", 1) == "…");
  CHECK(shown_json(nlohmann::json{{"a", {1, "b"}}}) == R"({"a":[1,"b"]})");
  CHECK(shown_json(std::string(1000, 'a')) == "\"" + std::string(119, 'a') + "…");
  CHECK(shown_json("\xff") == "\"\uFFFD\"");
}
