// core/cli/token_ids.h: token ids as words of the command line.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/check.h"

namespace shoal {

// Throws Error for a word that is no id below `vocab`.
inline std::vector<int32_t> parse_ids(const std::vector<std::string>& words, int64_t vocab) {
  std::vector<int32_t> ids;
  for (const std::string& word : words) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0 || id >= vocab) {
      fail("--ids: {} is given; the model has the ids 0 to {}", word, vocab - 1);
    }
    ids.push_back(id);
  }
  return ids;
}

}  // namespace shoal
