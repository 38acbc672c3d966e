// core/checkpoint/strict_json.cpp: the library's parser, watched: by itself it keeps the last of two equal keys.
#include "core/checkpoint/strict_json.h"

#include <set>
#include <vector>

#include "core/base/check.h"

namespace shoal {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMostShown = 120;

std::string cut(std::string text) {
  if (text.size() <= kMostShown) return text;
  size_t end = kMostShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "…";
}

}  // namespace

OrderedJson parse_strict_json(std::string_view text, const std::string& file) {
  // The library takes a NUL for the end of its input: what follows would be accepted unseen.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    fail("{}: holds a NUL at byte {}; it is no JSON file", file, nul);
  }
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, OrderedJson::parse_event_t event, OrderedJson& parsed) {
    using Event = OrderedJson::parse_event_t;
    if (depth > kMaxDepth) fail("{}: is nested deeper than {}", file, kMaxDepth);
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(parsed.get_ref<const std::string&>()).second) {
      fail("{}: the key {} appears twice in one object", file, shown_json(parsed));
    }
    return true;
  };
  try {
    return OrderedJson::parse(text.begin(), text.end(), watch);
  } catch (const OrderedJson::exception& error) {
    fail("{}: is not valid JSON: {}", file, cut(error.what()));
  }
}

std::string shown_json(const OrderedJson& value) {
  return cut(value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
}

}  // namespace shoal
