// data/byte_alphabet.cpp: the table, forwards and backwards.
#include "data/byte_alphabet.h"

#include <cstddef>
#include <cstdint>

namespace shoal {
namespace {

constexpr char32_t kFirstMoved = 0x100;
constexpr size_t kNumCharacters = 0x144;

// [kNumCharacters]: the byte of each code point, -1 for those that stand for none.
const std::array<int16_t, kNumCharacters>& byte_of_character() {
  static const auto kTable = [] {
    std::array<int16_t, kNumCharacters> table;
    table.fill(-1);
    for (size_t byte = 0; byte < 256; ++byte) table[byte_alphabet()[byte]] = static_cast<int16_t>(byte);
    return table;
  }();
  return kTable;
}

}  // namespace

const std::array<char32_t, 256>& byte_alphabet() {
  static const auto kTable = [] {
    std::array<char32_t, 256> table{};
    char32_t moved = kFirstMoved;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool stays = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      table[byte] = stays ? byte : moved++;
    }
    return table;
  }();
  return kTable;
}

std::string to_byte_characters(std::string_view bytes) {
  std::string characters;
  characters.reserve(bytes.size());
  for (const char c : bytes) {
    const char32_t character = byte_alphabet()[static_cast<unsigned char>(c)];
    if (character < 0x80) {
      characters += static_cast<char>(character);
    } else {
      characters += static_cast<char>(0xC0 | character >> 6);
      characters += static_cast<char>(0x80 | (character & 0x3F));
    }
  }
  return characters;
}

std::optional<std::string> from_byte_characters(std::string_view characters) {
  std::string bytes;
  bytes.reserve(characters.size());
  for (size_t at = 0; at < characters.size();) {
    const auto lead = static_cast<unsigned char>(characters[at++]);
    size_t character = lead;
    if (lead >= 0x80) {
      if (lead >= 0xE0 || at == characters.size()) return std::nullopt;  // beyond the table, which ends at U+0143
      character = static_cast<size_t>(lead & 0x1F) << 6 | (static_cast<unsigned char>(characters[at++]) & 0x3Fu);
    }
    if (character >= kNumCharacters || byte_of_character()[character] < 0) return std::nullopt;
    bytes += static_cast<char>(byte_of_character()[character]);
  }
  return bytes;
}

}  // namespace shoal
