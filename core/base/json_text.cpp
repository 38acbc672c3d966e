// core/base/json_text.cpp: the library's parser, watched while it builds the tree.
#include "core/base/json_text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <vector>

#include "core/base/check.h"

namespace shoal {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

template <class Json>
Json parse(std::string_view text, const std::string& path, size_t max_members) {
  // The library would take it for the end.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    fail("{}: byte {} is NUL: expected JSON in UTF-8", path, nul);
  }
  std::vector<std::set<std::string>> open;  // names of the members so far, of every object and list around
  const auto watch = [&](int, typename Json::parse_event_t event, Json& value) {
    using Event = typename Json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        open.emplace_back();
        if (open.size() > kMaxJsonDepth) fail("{}: values are nested more than {} deep", path, kMaxJsonDepth);
        break;
      case Event::object_end:
      case Event::array_end: open.pop_back(); break;
      case Event::key: {
        const std::string& name = value.template get_ref<const std::string&>();
        if (!open.back().insert(name).second) fail("{}: the member \"{}\" appears twice", path, name.substr(0, 80));
        if (open.back().size() > max_members) fail("{}: an object has more than {} members", path, max_members);
        break;
      }
      case Event::value: break;
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const typename Json::exception& error) {
    std::string why = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 5: … ; last read: '<all of a long string>'"
    why.resize(std::min(why.find("; last read"), why.size()));
    if (const size_t kind = why.find("] "); kind != std::string::npos) why.erase(0, kind + 2);
    if (constexpr std::string_view kWhere = "parse error at "; why.starts_with(kWhere)) why.erase(0, kWhere.size());
    fail("{}: is not JSON: {}", path, why.substr(0, 200));
  }
}

}  // namespace

json parse_json(std::string_view text, const std::string& path) { return parse<json>(text, path, SIZE_MAX); }

ordered_json parse_ordered_json(std::string_view text, const std::string& path) {
  return parse<ordered_json>(text, path, kMaxOrderedMembers);
}

int64_t json_integer(const json& value, int64_t low, int64_t high) {
  const bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t number = value.is_number_integer() && !too_large ? value.get<int64_t>() : 0;
  if (!value.is_number_integer() || too_large || number < low || number > high) {
    fail("expected a whole number from {} to {}, found {}", low, high,
         value.is_primitive() ? value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 80)
                              : std::string(value.type_name()));
  }
  return number;
}

}  // namespace shoal
