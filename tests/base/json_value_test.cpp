// tests/base/json_value_test.cpp: values read by type, and every mistake named by its place.
#include "core/base/json_value.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/base/check.h"

using namespace shoal;
using Catch::Matchers::Contains;
using Catch::Matchers::Equals;

TEST_CASE("values are read by type", "[json]") {
  const JsonDocument document(R"({"a": {"b": [true, "x", 2.5, null]}, "n": null})", "x.json");
  const JsonValue root = document.root();
  const JsonValue list = root.at("a").at("b");
  REQUIRE(list.size() == 4);
  CHECK(list.at(0).boolean());
  CHECK(list.at(1).string() == "x");
  CHECK(list.at(2).number() == 2.5);
  CHECK(list.at(3).is_null());
  CHECK(root.keys() == std::vector<std::string>{"a", "n"});
  CHECK(root.has("a"));
  CHECK_FALSE(root.has("n"));
  CHECK_FALSE(list.has("a"));
  CHECK(root.at("n").boolean_or(true));
  CHECK(root.at("absent").string_or("y") == "y");
  CHECK(list.at(1).string_or("y") == "x");
  CHECK(root.at("absent").or_empty().keys().empty());
  CHECK(root.at("a").or_empty().keys() == std::vector<std::string>{"b"});
  CHECK(list.at(2).full_place() == "x.json: a.b[2]");
  CHECK(document.root("pre_tokenizer").at("a").place() == "pre_tokenizer.a");
  CHECK(JsonDocument::of_tree(7, "y").root().integer(0, 7) == 7);
}

TEST_CASE("a value of another type is named by file and place", "[json]") {
  const JsonDocument document(R"({"a": {"b": [true, "x"]}, "long": ")" + std::string(1000, 'z') + "\"}", "x.json");
  const JsonValue root = document.root(), list = root.at("a").at("b");
  CHECK_THROWS_WITH(list.at(1).boolean_or(true), Equals("x.json: a.b[1]: expected true or false, found \"x\""));
  CHECK_THROWS_WITH(list.at(0).string(), Equals("x.json: a.b[0]: expected a string, found true"));
  CHECK_THROWS_WITH(list.at(0).number(), Equals("x.json: a.b[0]: expected a finite number, found true"));
  CHECK_THROWS_WITH(root.at("a").size(), Equals("x.json: a: expected an array, found {\"b\":[true,\"x\"]}"));
  CHECK_THROWS_WITH(list.at("c"), Equals("x.json: a.b: expected an object, found [true,\"x\"]"));
  CHECK_THROWS_WITH(root.at("c").string(), Equals("x.json: c: expected a string, found null"));
  CHECK_THROWS_WITH(root.size(), Contains("x.json: the whole: expected an array, found {\"a\""));
  CHECK_THROWS_WITH(root.at("long").boolean(), Contains("found \"zzz") && Contains("zz…"));
  CHECK_THROWS_WITH(list.at(2), Contains("x.json: a.b has no element 2"));
  CHECK_THROWS_WITH(JsonDocument("{", "x.json"), Contains("x.json: is not JSON"));
}

TEST_CASE("a whole number is one, and in its range", "[json]") {
  const auto number = [](const std::string& text) { return JsonDocument(text, "x").root("n").integer(-5, INT64_MAX); };
  CHECK(number("7") == 7);
  CHECK(number("-5") == -5);
  CHECK(number("9223372036854775807") == INT64_MAX);
  for (const char* wrong :
       {"-6", "9223372036854775808", "18446744073709551615", "1e300", "2.0", "true", "null", "\"7\"", "[7]", "{}"}) {
    INFO(wrong);
    CHECK_THROWS_WITH(number(wrong), Contains("expected a whole number from -5 to 9223372036854775807, found "));
    CHECK_THROWS_WITH(JsonDocument(wrong, "x").root("n").integer(-5, INT64_MAX, "a size"),
                      Contains("x: n: expected a size, found "));
  }
}
