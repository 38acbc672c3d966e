// core/huggingface/config_keys.cpp: one look-up, many types.
#include "core/huggingface/config_keys.h"

#include <cmath>
#include <utility>

#include "core/base/check.h"

namespace shoal {

namespace {

constexpr size_t kMostShown = 120;

std::string cut(std::string text) {
  if (text.size() <= kMostShown) return text;
  size_t end = kMostShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "…";
}

}  // namespace

std::string shown_json(const OrderedJson& value) {
  return cut(value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
}

namespace {

constexpr int64_t kMost = 1'000'000'000'000;

}  // namespace

HfConfigKeys::HfConfigKeys(const OrderedJson& object, std::string file, std::string prefix)
    : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {
  if (object_.is_object()) return;
  fail("{}: {}: expected an object, found {}", file_, prefix_.empty() ? "the whole" : prefix_, shown_json(object_));
}

const OrderedJson* HfConfigKeys::find(const char* key) {
  asked_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void HfConfigKeys::wrong_type(const char* key, std::string_view expected) const {
  fail("{}: {}{}: expected {}, found {}", file_, prefix_, key, expected, shown_json(object_[key]));
}

void HfConfigKeys::missing(const char* key) const { fail("{}: {}{} is missing", file_, prefix_, key); }

void HfConfigKeys::refuse(const char* key, std::string_view why) const {
  const auto found = object_.find(key);
  fail("{}: {}{} is {}: {}", file_, prefix_, key, found == object_.end() ? "not given" : shown_json(*found), why);
}

bool HfConfigKeys::has(const char* key) { return find(key) != nullptr; }

int64_t HfConfigKeys::integer(const char* key, int64_t low) {
  const OrderedJson* value = find(key);
  if (value == nullptr) missing(key);
  const std::string expected = fmt::format("a whole number of at least {}", low);
  if (!value->is_number_integer()) wrong_type(key, expected);
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(kMost)) wrong_type(key, expected);
  const int64_t number = value->get<int64_t>();
  if (number < low || number > kMost) wrong_type(key, expected);
  return number;
}

int64_t HfConfigKeys::integer_or(const char* key, int64_t absent, int64_t low) {
  return has(key) ? integer(key, low) : absent;
}

double HfConfigKeys::real(const char* key) {
  const OrderedJson* value = find(key);
  if (value == nullptr) missing(key);
  if (!value->is_number() || !std::isfinite(value->get<double>())) wrong_type(key, "a finite number");
  return value->get<double>();
}

double HfConfigKeys::real_or(const char* key, double absent) { return has(key) ? real(key) : absent; }

bool HfConfigKeys::boolean_or(const char* key, bool absent) {
  const OrderedJson* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) wrong_type(key, "true or false");
  return value->get<bool>();
}

std::string HfConfigKeys::text_or(const char* key, const std::string& absent) {
  const OrderedJson* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_string()) wrong_type(key, "a string");
  return value->get<std::string>();
}

OrderedJson HfConfigKeys::object(const char* key) {
  const OrderedJson* value = find(key);
  if (value == nullptr) return OrderedJson::object();
  if (!value->is_object()) wrong_type(key, "an object");
  return *value;
}

std::vector<int64_t> HfConfigKeys::integers(const char* key) {
  const OrderedJson* value = find(key);
  if (value == nullptr) return {};
  const OrderedJson list = value->is_array() ? *value : OrderedJson::array({*value});
  std::vector<int64_t> numbers;
  for (const OrderedJson& element : list) {
    const bool whole = element.is_number_unsigned() && element.get<uint64_t>() <= static_cast<uint64_t>(kMost);
    if (!whole) wrong_type(key, "whole numbers");
    numbers.push_back(element.get<int64_t>());
  }
  return numbers;
}

std::vector<std::string> HfConfigKeys::texts(const char* key) {
  const OrderedJson* value = find(key);
  if (value == nullptr) return {};
  std::vector<std::string> texts;
  if (!value->is_array()) wrong_type(key, "a list of strings");
  for (const OrderedJson& element : *value) {
    if (!element.is_string()) wrong_type(key, "a list of strings");
    texts.push_back(element.get<std::string>());
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
  for (const auto& [key, value] : object_.items()) {
    if (!asked_.contains(key)) keys.push_back(key);
  }
  return keys;
}

}  // namespace shoal
