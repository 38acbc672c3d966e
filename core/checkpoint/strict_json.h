// core/checkpoint/strict_json.h: JSON files from outside, believed only as far as they are well formed.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace shoal {

using OrderedJson = nlohmann::ordered_json;

// One JSON value: UTF-8, at most 64 deep, no object with the same key twice. Throws Error naming `file`, and the byte
// or the key.
OrderedJson parse_strict_json(std::string_view text, const std::string& file);

// A text as JSON would show it, cut where it is long: for messages.
std::string shown_json(const OrderedJson& value);

}  // namespace shoal
