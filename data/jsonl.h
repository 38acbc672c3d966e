// data/jsonl.h: the text inside one line of a JSONL file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shoal {

// The string at `key` of the JSON object in `line`. Throws Error "path:line: …" for what is no object, has no such key
// or another type there, or is not UTF-8. Only that one string is kept; other members are checked and dropped.
std::string text_of_json_line(std::string_view line, std::string_view key, const std::string& path,
                              int64_t line_number);

}  // namespace shoal
