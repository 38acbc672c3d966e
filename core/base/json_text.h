// core/base/json_text.h: JSON from files that nobody vouches for, as a tree; what messages show of it.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>

namespace shoal {

// Values nested deeper would overflow the stack of whoever walks or copies the tree.
constexpr int kMaxJsonDepth = 64;

// Throws Error, naming `path`, for what is not JSON in UTF-8, holds a NUL, nests deeper than kMaxJsonDepth, or names a
// member of an object twice (of which readers would keep one or the other).
nlohmann::json parse_json(std::string_view text, const std::string& path);

// What the library says of a text that is no JSON: "line 1, column 5: …", without what it read last, which may be all
// of a long file.
std::string json_problem(std::string_view said);

// For messages: the beginning of a text, `most` bytes or a little less, with "…" where it was cut.
std::string shown_text(std::string_view text, size_t most = 120);
// The beginning of a value, as JSON.
std::string shown_json(const nlohmann::json& value);

}  // namespace shoal
