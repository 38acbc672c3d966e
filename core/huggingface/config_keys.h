// core/huggingface/config_keys.h: the keys of one JSON object, read by type, and which of them nobody asked for.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json_value.h"

namespace shoal {

// A key that is null counts as absent. Every error names file and key.
class HfConfigKeys {
 public:
  // Throws Error for another value than an object.
  explicit HfConfigKeys(JsonValue object);

  bool has(const char* key) { return !value(key).is_null(); }
  // At least `low`, and far from where products overflow.
  int64_t integer(const char* key, int64_t low = 1);  // required
  int64_t integer_or(const char* key, int64_t absent, int64_t low = 0);
  double real(const char* key);  // required, finite
  double real_or(const char* key, double absent);
  bool boolean_or(const char* key, bool absent) { return value(key).boolean_or(absent); }
  std::string text_or(const char* key, const std::string& absent) { return value(key).string_or(absent); }
  // An object; empty when absent.
  HfConfigKeys object(const char* key);
  // A list of whole numbers from `low` on; one number counts as a list of one. Empty when absent.
  std::vector<int64_t> integers(const char* key, int64_t low = 0);
  // A list of strings. Empty when absent.
  std::vector<std::string> texts(const char* key);

  // Refuses every other value; `why` says what it would need.
  void must_be(const char* key, bool wanted, bool absent, std::string_view why);
  void must_be(const char* key, const std::string& wanted, std::string_view why);
  void must_be_absent(const char* key, std::string_view why);
  [[noreturn]] void refuse(const char* key, std::string_view why) const;

  // Not needed to compute what the model computes.
  void ignore(std::initializer_list<const char*> keys) { asked_.insert(keys.begin(), keys.end()); }
  // What was neither asked for nor ignored.
  std::vector<std::string> unknown() const;

 private:
  JsonValue value(const char* key);     // null when absent
  JsonValue required(const char* key);  // throws Error when absent

  JsonValue object_;
  std::set<std::string> asked_;
};

}  // namespace shoal
