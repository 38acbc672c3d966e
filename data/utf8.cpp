// data/utf8.cpp: UTF-8 by its table of well-formed byte sequences.
#include "data/utf8.h"

#include <cstdint>
#include <cstring>

namespace shoal {
namespace {

// Length of the well-formed character at `from`, 0 when there is none.
size_t character_bytes(const unsigned char* from, size_t available) {
  const unsigned char lead = from[0];
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                        : (lead & 0xF0) == 0xE0        ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  if (length == 0 || length > available) return 0;
  // The second byte excludes overlong forms, surrogates and what is above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (from[1] < low || from[1] > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((from[i] & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

size_t valid_utf8_prefix(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word = 0;
    if (at + sizeof(word) <= text.size()) {
      std::memcpy(&word, bytes + at, sizeof(word));
      if ((word & 0x8080808080808080u) == 0) {  // eight ASCII characters
        at += sizeof(word);
        continue;
      }
    }
    const size_t length = character_bytes(bytes + at, text.size() - at);
    if (length == 0) return at;
    at += length;
  }
  return at;
}

}  // namespace shoal
