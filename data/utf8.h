// data/utf8.h: where a string stops being UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace shoal {

// Length of the longest prefix that is well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates,
// nothing above U+10FFFF).
size_t valid_utf8_prefix(std::string_view text);

}  // namespace shoal
