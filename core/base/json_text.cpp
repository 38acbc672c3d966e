// core/base/json_text.cpp: the library's parser, watched while it builds the tree.
#include "core/base/json_text.h"

#include <nlohmann/json.hpp>

#include <set>
#include <vector>

#include "core/base/check.h"

namespace shoal {

using nlohmann::json;

json parse_json(std::string_view text, const std::string& path) {
  // The library would take it for the end.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    fail("{}: byte {} is NUL: expected JSON in UTF-8", path, nul);
  }
  std::vector<std::set<std::string>> open;  // names of the members so far, of every object and list around
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    using Event = json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        open.emplace_back();
        if (open.size() > kMaxJsonDepth) fail("{}: values are nested more than {} deep", path, kMaxJsonDepth);
        break;
      case Event::object_end:
      case Event::array_end: open.pop_back(); break;
      case Event::key: {
        const std::string& name = value.get_ref<const std::string&>();
        if (!open.back().insert(name).second) fail("{}: the member \"{}\" appears twice", path, shown_text(name, 80));
        break;
      }
      case Event::value: break;
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    fail("{}: is not JSON: {}", path, shown_text(json_problem(error.what()), 200));
  }
}

std::string json_problem(std::string_view said) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: … ; last read: '<all of a long string>'"
  said = said.substr(0, said.find("; last read"));
  if (const size_t kind = said.find("] "); kind != std::string_view::npos) said.remove_prefix(kind + 2);
  if (constexpr std::string_view kWhere = "parse error at "; said.starts_with(kWhere))
    said.remove_prefix(kWhere.size());
  return std::string(said);
}

std::string shown_text(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return std::string(text.substr(0, end)) + "…";
}

std::string shown_json(const json& value) {
  return shown_text(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace shoal
