// data/json_value.h: a JSON value that knows its file and place, so that every mistake in it can be named.
#pragma once

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>
#include <string_view>

#include "core/base/check.h"

namespace shoal {

class JsonValue {
 public:
  JsonValue(const nlohmann::json& value, std::string path, std::string place)
      : value_(&value), path_(std::move(path)), place_(std::move(place)) {}

  const std::string& place() const { return place_; }
  // "tokenizer.json: model.type"
  std::string full_place() const { return path_ + ": " + place_; }

  bool is_null() const { return value_->is_null(); }
  bool has(std::string_view key) const {
    return value_->is_object() && value_->contains(key) && !(*value_)[std::string(key)].is_null();
  }

  JsonValue at(const std::string& key) const {
    static const nlohmann::json kNull;
    expect(value_->is_object(), "an object");
    const auto found = value_->find(key);
    return {found == value_->end() ? kNull : *found, path_, place_.empty() ? key : place_ + "." + key};
  }
  size_t size() const {
    expect(value_->is_array(), "an array");
    return value_->size();
  }
  JsonValue at(size_t i) const { return {(*value_)[i], path_, fmt::format("{}[{}]", place_, i)}; }

  std::string string() const {
    expect(value_->is_string(), "a string");
    return value_->get<std::string>();
  }
  bool boolean(bool when_absent) const {
    if (is_null()) return when_absent;
    expect(value_->is_boolean(), "true or false");
    return value_->get<bool>();
  }
  int64_t integer(int64_t low, int64_t high) const {
    const bool fits = value_->is_number_integer() && !(value_->is_number_unsigned() && *value_ > high) &&
                      value_->get<int64_t>() >= low && value_->get<int64_t>() <= high;
    expect(fits, fmt::format("an integer from {} to {}", low, high));
    return value_->get<int64_t>();
  }

  // A key outside the list may change what the others mean.
  void only(std::initializer_list<std::string_view> known) const {
    expect(value_->is_object(), "an object");
    for (const auto& [key, unused] : value_->items()) {
      bool found = false;
      for (const std::string_view name : known) found |= name == key;
      if (!found)
        fail("{}: the key \"{}\" is one that Shoal does not know, and it may change the tokens", full_place(), key);
    }
  }

  void expect(bool is_right, std::string_view what) const {
    if (!is_right) fail("{}: expected {}, found {}", full_place(), what, shown());
  }

  std::string shown() const {
    if (value_->is_object() || value_->is_array()) return fmt::format("an {}", value_->type_name());
    std::string text = value_->dump();
    if (text.size() > 80) text = text.substr(0, 60) + "…";
    return text;
  }

 private:
  const nlohmann::json* value_;
  std::string path_;
  std::string place_;
};

}  // namespace shoal
