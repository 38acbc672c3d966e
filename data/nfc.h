// data/nfc.h: Unicode's normalization form C, which some tokenizers (Qwen's) give text before they encode it.
#pragma once

#include <string>
#include <string_view>

namespace shoal {

// `text`: valid UTF-8. Throws Error when memory runs out.
std::string to_nfc(std::string_view text);

}  // namespace shoal
