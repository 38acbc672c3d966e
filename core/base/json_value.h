// core/base/json_value.h: a JSON value that knows its file and place, so that every mistake in it can be named.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

class JsonValue;

// A parsed file, which outlives its values.
class JsonDocument {
 public:
  // As parse_json (core/base/json_text.h).
  JsonDocument(std::string_view text, std::string path);
  // `path` is for messages.
  static JsonDocument of_tree(nlohmann::json root, std::string path);
  ~JsonDocument();
  JsonDocument(const JsonDocument&) = delete;
  JsonDocument& operator=(const JsonDocument&) = delete;

  // `place`: what messages call the whole; "" for a file.
  JsonValue root(std::string place = "") const;

 private:
  JsonDocument(std::unique_ptr<const nlohmann::json> root, std::string path);

  std::unique_ptr<const nlohmann::json> root_;
  std::string path_;
};

// A value of a document, read by type. A member that is absent is null. Every Error names file and place, what was
// expected, and what was found.
class JsonValue {
 public:
  JsonValue(const nlohmann::json& value, const std::string& path, std::string place)
      : value_(&value), path_(&path), place_(std::move(place)) {}

  const std::string& place() const { return place_; }
  // "tokenizer.json: model.type"
  std::string full_place() const;
  // As JSON, its beginning where it is long.
  std::string shown() const;

  bool is_null() const;
  bool is_object() const;
  bool is_array() const;
  bool is_number() const;
  bool is_string() const;

  // An object's member is there and not null.
  bool has(std::string_view key) const;
  JsonValue at(const std::string& key) const;
  std::vector<std::string> keys() const;
  // An array's elements.
  size_t size() const;
  JsonValue at(size_t i) const;

  // This object; an empty one in the place of null.
  JsonValue or_empty() const;

  std::string string() const;
  std::string string_or(const std::string& absent) const;
  bool boolean() const;
  bool boolean_or(bool absent) const;
  // Finite.
  double number() const;
  // Whole, without a fraction in the text, and in the range: the library's own conversion takes 1e300, true and 2^70
  // too, for whatever comes of them. `expected` says the range in other words.
  int64_t integer(int64_t low, int64_t high, std::string_view expected = "") const;
  bool is_integer(int64_t low, int64_t high) const;

  void expect(bool is_right, std::string_view what) const;

 private:
  const nlohmann::json* value_;
  const std::string* path_;
  std::string place_;
};

}  // namespace shoal
