// core/base/json_value.cpp: one question and one sentence for each type.
#include "core/base/json_value.h"

#include <nlohmann/json.hpp>

#include <cmath>

#include "core/base/check.h"
#include "core/base/json_text.h"

namespace shoal {

using nlohmann::json;

JsonDocument::JsonDocument(std::string_view text, std::string path)
    : root_(std::make_unique<const json>(parse_json(text, path))), path_(std::move(path)) {}

JsonDocument::JsonDocument(std::unique_ptr<const json> root, std::string path)
    : root_(std::move(root)), path_(std::move(path)) {}

JsonDocument JsonDocument::of_tree(json root, std::string path) {
  return {std::make_unique<const json>(std::move(root)), std::move(path)};
}

JsonDocument::~JsonDocument() = default;

JsonValue JsonDocument::root(std::string place) const { return {*root_, path_, std::move(place)}; }

std::string JsonValue::full_place() const { return *path_ + ": " + (place_.empty() ? "the whole" : place_); }
std::string JsonValue::shown() const { return shown_json(*value_); }

bool JsonValue::is_null() const { return value_->is_null(); }
bool JsonValue::is_object() const { return value_->is_object(); }
bool JsonValue::is_array() const { return value_->is_array(); }
bool JsonValue::is_number() const { return value_->is_number(); }
bool JsonValue::is_string() const { return value_->is_string(); }

void JsonValue::expect(bool is_right, std::string_view what) const {
  if (!is_right) fail("{}: expected {}, found {}", full_place(), what, shown());
}

bool JsonValue::has(std::string_view key) const {
  if (!is_object()) return false;
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

JsonValue JsonValue::at(const std::string& key) const {
  static const json kNull;
  expect(is_object(), "an object");
  const auto found = value_->find(key);
  return {found == value_->end() ? kNull : *found, *path_, place_.empty() ? key : place_ + "." + key};
}

std::vector<std::string> JsonValue::keys() const {
  expect(is_object(), "an object");
  std::vector<std::string> names;
  for (const auto& [key, unused] : value_->items()) names.push_back(key);
  return names;
}

JsonValue JsonValue::or_empty() const {
  static const json kEmpty = json::object();
  return is_null() ? JsonValue(kEmpty, *path_, place_) : *this;
}

size_t JsonValue::size() const {
  expect(is_array(), "an array");
  return value_->size();
}

JsonValue JsonValue::at(size_t i) const {
  SHOAL_CHECK(i < size(), "{} has no element {}", full_place(), i);
  return {(*value_)[i], *path_, fmt::format("{}[{}]", place_, i)};
}

std::string JsonValue::string() const {
  expect(value_->is_string(), "a string");
  return value_->get<std::string>();
}
std::string JsonValue::string_or(const std::string& absent) const { return is_null() ? absent : string(); }

bool JsonValue::boolean() const {
  expect(value_->is_boolean(), "true or false");
  return value_->get<bool>();
}
bool JsonValue::boolean_or(bool absent) const { return is_null() ? absent : boolean(); }

double JsonValue::number() const {
  expect(value_->is_number() && std::isfinite(value_->get<double>()), "a finite number");
  return value_->get<double>();
}

bool JsonValue::is_integer(int64_t low, int64_t high) const {
  if (!value_->is_number_integer()) return false;
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return false;
  return value_->get<int64_t>() >= low && value_->get<int64_t>() <= high;
}

int64_t JsonValue::integer(int64_t low, int64_t high, std::string_view expected) const {
  if (!is_integer(low, high)) {
    expect(false, expected.empty() ? fmt::format("a whole number from {} to {}", low, high) : std::string(expected));
  }
  return value_->get<int64_t>();
}

}  // namespace shoal
