// data/piece_boundaries.cpp: the set of neighbours inside pieces.
#include "data/piece_boundaries.h"

namespace shoal {
namespace {

// Takes the first character off valid UTF-8.
char32_t take_character(std::string_view& text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  char32_t character = byte(0);
  size_t length = 1;
  if (character >= 0x80) {
    length = character < 0xE0 ? 2 : character < 0xF0 ? 3 : 4;
    character &= 0x7Fu >> length;
    for (size_t i = 1; i < length; ++i) character = character << 6 | (byte(i) & 0x3Fu);
  }
  text.remove_prefix(length);
  return character;
}

uint64_t pair_of(char32_t left, char32_t right) { return uint64_t{left} << 32 | right; }

}  // namespace

void PieceBoundaries::add_piece(std::string_view piece) {
  char32_t left = take_character(piece);
  while (!piece.empty()) {
    const char32_t right = take_character(piece);
    if (left < 128 && right < 128) {
      ascii_pairs_[left].set(right);
    } else {
      other_pairs_.insert(pair_of(left, right));
    }
    left = right;
  }
}

bool PieceBoundaries::joined(char32_t left, char32_t right) const {
  if (left < 128 && right < 128) return ascii_pairs_[left].test(right);
  return other_pairs_.contains(pair_of(left, right));
}

size_t PieceBoundaries::first_part(std::string_view text) const {
  std::string_view rest = text;
  char32_t left = take_character(rest);
  while (!rest.empty()) {
    const size_t length = text.size() - rest.size();
    const char32_t right = take_character(rest);
    if (!joined(left, right)) return length;
    left = right;
  }
  return text.size();
}

}  // namespace shoal
