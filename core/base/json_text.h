// core/base/json_text.h: JSON from files that nobody vouches for, as a tree.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal {

// Values nested deeper would overflow the stack of whoever walks or copies the tree.
constexpr int kMaxJsonDepth = 64;
// A tree in the order of the file is searched from the front for every member that is put into it.
constexpr size_t kMaxOrderedMembers = 10'000;

// Throws Error, naming `path`, for what is not JSON in UTF-8, holds a NUL, nests deeper than kMaxJsonDepth, or names a
// member of an object twice (of which readers would keep one or the other).
nlohmann::json parse_json(std::string_view text, const std::string& path);
// The same, with members in the order of the file: at most kMaxOrderedMembers in an object.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& path);

// A whole number from `low` to `high`. The library's own conversion takes 1e300, true and 2^70 too, for whatever comes
// of them. Throws Error, without a place.
int64_t json_integer(const nlohmann::json& value, int64_t low, int64_t high);

}  // namespace shoal
