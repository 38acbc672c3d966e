// data/tokenizer_byte.cpp: bytes as ids.
#include "data/tokenizer_byte.h"

#include <array>

#include "core/base/check.h"

namespace shoal {

void ByteTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
}

std::string_view ByteTokenizer::bytes_of(int32_t id) const {
  static const std::array<char, 256> kBytes = [] {
    std::array<char, 256> bytes{};
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
    return bytes;
  }();
  if (id < 0 || id >= vocab_size()) fail("token {} is outside the byte tokenizer's vocabulary of 0 to 256", id);
  if (id == eod_id()) return {};
  return {&kBytes[static_cast<size_t>(id)], 1};
}

}  // namespace shoal
