// data/piece_boundaries.h: where a text may be cut without changing its BPE tokens.
//
// Byte-pair encoding only ever joins neighbours into pieces of the vocabulary. Between two characters that no piece has
// side by side nothing is ever joined, so the parts left and right can be encoded by themselves: exactly, not nearly.
// In practice the parts are words, and words repeat.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string_view>
#include <unordered_set>

namespace shoal {

class PieceBoundaries {
 public:
  // `piece`: valid UTF-8, as it stands in the text (spaces as spaces).
  void add_piece(std::string_view piece);

  // Length of the shortest prefix that may be encoded by itself. `text`: valid UTF-8, not empty.
  size_t first_part(std::string_view text) const;

 private:
  bool joined(char32_t left, char32_t right) const;

  std::array<std::bitset<128>, 128> ascii_pairs_;
  std::unordered_set<uint64_t> other_pairs_;
};

}  // namespace shoal
