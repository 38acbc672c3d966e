// data/jsonl.cpp: a SAX handler that keeps one top-level string.
#include "data/jsonl.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <vector>

#include "core/base/check.h"
#include "core/base/json_text.h"

namespace shoal {
namespace {

using nlohmann::json;

class TextHandler final : public nlohmann::json_sax<json> {
 public:
  explicit TextHandler(std::string_view key) : key_(key) {}

  std::optional<std::string> text;
  std::string found;              // type of the value at the key, when it is no string
  std::string problem;            // why parsing stopped
  std::vector<std::string> keys;  // top-level ones, for the message

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary"); }
  bool string(string_t& value_text) override {
    if (depth_ == 1 && at_key_) {
      text = std::move(value_text);
      return true;
    }
    return value("a string");
  }
  bool start_object(std::size_t) override { return value("an object") && deeper(); }
  bool start_array(std::size_t) override { return value("an array") && deeper(); }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      at_key_ = name == key_;
      if (keys.size() < 8) keys.push_back(std::move(name));
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    problem = json_problem(error.what());
    if (const size_t column = problem.find("column "); column != std::string::npos) problem.erase(0, column);
    return false;
  }

 private:
  bool value(std::string_view type) {
    if (depth_ == 0 && type != "an object") {
      problem = fmt::format("expected a JSON object, found {}", type);
      return false;
    }
    if (depth_ == 1 && at_key_) found = type;
    return true;
  }
  bool deeper() {
    if (++depth_ <= kMaxJsonDepth) return true;
    problem = fmt::format("values nested more than {} deep", kMaxJsonDepth);
    return false;
  }

  std::string_view key_;
  int depth_ = 0;
  bool at_key_ = false;
};

}  // namespace

std::string text_of_json_line(std::string_view line, std::string_view key, const std::string& path,
                              int64_t line_number) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (line_number == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  // The JSON library would take it for the end.
  if (const size_t nul = line.find('\0'); nul != std::string_view::npos) {
    fail(
        "{}:{}: byte {} of the line is NUL: expected one JSON object a line, in UTF-8; the file may have been cut by a "
        "crash",
        path, line_number, nul + 1);
  }
  TextHandler handler(key);
  if (!json::sax_parse(line, &handler)) {
    fail("{}:{}: expected one JSON object a line, in UTF-8: {}", path, line_number, handler.problem);
  }
  if (!handler.text && handler.found.empty()) {
    fail("{}:{}: expected the key \"{}\", found \"{}\"; name the one that holds the text (--text-key)", path,
         line_number, key, fmt::join(handler.keys, "\", \""));
  }
  if (!handler.text) fail("{}:{}: expected a string at \"{}\", found {}", path, line_number, key, handler.found);
  return std::move(*handler.text);
}

}  // namespace shoal
