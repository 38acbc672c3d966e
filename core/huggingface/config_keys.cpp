// core/huggingface/config_keys.cpp: which keys are asked for, and what is refused.
#include "core/huggingface/config_keys.h"

#include <utility>

#include "core/base/check.h"

namespace shoal {

namespace {

constexpr int64_t kMost = 1'000'000'000'000;

}  // namespace

HfConfigKeys::HfConfigKeys(JsonValue object) : object_(std::move(object)) {
  object_.expect(object_.is_object(), "an object");
}

JsonValue HfConfigKeys::value(const char* key) {
  asked_.insert(key);
  return object_.at(key);
}

JsonValue HfConfigKeys::required(const char* key) {
  JsonValue found = value(key);
  if (found.is_null()) fail("{} is missing", found.full_place());
  return found;
}

void HfConfigKeys::refuse(const char* key, std::string_view why) const {
  const JsonValue value = object_.at(key);
  fail("{} is {}: {}", value.full_place(), value.is_null() ? "not given" : value.shown(), why);
}

int64_t HfConfigKeys::integer(const char* key, int64_t low) {
  return required(key).integer(low, kMost, fmt::format("a whole number of at least {}", low));
}
int64_t HfConfigKeys::integer_or(const char* key, int64_t absent, int64_t low) {
  return has(key) ? integer(key, low) : absent;
}

double HfConfigKeys::real(const char* key) { return required(key).number(); }
double HfConfigKeys::real_or(const char* key, double absent) { return has(key) ? real(key) : absent; }

HfConfigKeys HfConfigKeys::object(const char* key) { return HfConfigKeys(value(key).or_empty()); }

std::vector<int64_t> HfConfigKeys::integers(const char* key, int64_t low) {
  const JsonValue list = value(key);
  if (list.is_null()) return {};
  const std::string what = fmt::format("whole numbers from {} on", low);
  if (list.is_number()) return {list.integer(low, kMost, what)};
  std::vector<int64_t> numbers;
  list.expect(list.is_array(), what);
  for (size_t i = 0; i < list.size(); ++i) {
    list.expect(list.at(i).is_integer(low, kMost), what);
    numbers.push_back(list.at(i).integer(low, kMost));
  }
  return numbers;
}

std::vector<std::string> HfConfigKeys::texts(const char* key) {
  const JsonValue list = value(key);
  if (list.is_null()) return {};
  std::vector<std::string> texts;
  list.expect(list.is_array(), "a list of strings");
  for (size_t i = 0; i < list.size(); ++i) {
    list.expect(list.at(i).is_string(), "a list of strings");
    texts.push_back(list.at(i).string());
  }
  return texts;
}

void HfConfigKeys::must_be(const char* key, bool wanted, bool absent, std::string_view why) {
  if (boolean_or(key, absent) != wanted) refuse(key, why);
}

void HfConfigKeys::must_be(const char* key, const std::string& wanted, std::string_view why) {
  if (text_or(key, wanted) != wanted) refuse(key, why);
}

void HfConfigKeys::must_be_absent(const char* key, std::string_view why) {
  if (has(key)) refuse(key, why);
}

std::vector<std::string> HfConfigKeys::unknown() const {
  std::vector<std::string> keys;
  for (std::string& key : object_.keys()) {
    if (!asked_.contains(key)) keys.push_back(std::move(key));
  }
  return keys;
}

}  // namespace shoal
