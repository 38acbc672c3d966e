// tests/fuzz/json_fuzz.h: JSON that is hostile whatever it is to mean.
#pragma once

#include <string>
#include <vector>

#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

// Beside `sound`, a document; `key` is one of its members.
inline std::vector<Seed> json_seeds(const std::string& sound, const std::string& key) {
  return {
      {sound, kSound},
      "",
      "{",
      "[]",
      "null",
      "1e999",
      "{\"" + key + "\":1e999}",
      "{\"" + key + "\":-1}",
      "{\"" + key + "\":18446744073709551616}",
      "{\"" + key + "\":null}",
      "{\"" + key + "\":{}}",
      "{\"" + key + "\":[1,\"a\",null,true,[]]}",
      {"{\"" + key + "\":1,\"" + key + "\":2}", "appears twice"},
      "{\"" + key + "\":\"\xff\"}",
      "{\"" + key + "\":\"\\ud800\"}",
      sound + sound,
      {sound + std::string(1, '\0'), "is NUL"},
      "\xEF\xBB\xBF" + sound,
      {repeated("[", 60000), "nested more than 64 deep"},
      repeated("{\"" + key + "\":", 20000),
      "{\"" + key + "\":" + repeated("[", 100000) + repeated("]", 100000) + "}",
  };
}

}  // namespace shoal::fuzz
