// data/added_tokens.h: finds the added tokens of a tokenizer.json in text, as its library does.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/regex.h"
#include "data/tokenizer_json.h"

namespace shoal {

// Matches are leftmost, then longest. A match of a special token is passed over, as text: it only keeps others from
// beginning inside it.
class AddedTokenFinder {
 public:
  AddedTokenFinder();

  void add(const AddedToken& token, std::string_view content);

  // Whether any text can have a match that counts.
  bool finds_any() const { return finds_any_; }

  // Text between tokens (never empty), and tokens, in order.
  void split(std::string_view text, Regex::Scratch& scratch, const std::function<void(std::string_view)>& on_text,
             const std::function<void(int32_t)>& on_token) const;

 private:
  struct Pattern {
    int32_t id = 0;
    bool special = false;
    bool single_word = false;
    bool lstrip = false;
    bool rstrip = false;
  };

  // Pattern of the longest content that begins at `at`, or -1.
  int32_t longest_at(std::string_view text, size_t at, size_t& length) const;
  bool is_word_before(std::string_view text, Regex::Scratch& scratch) const;
  bool is_word_behind(std::string_view text, Regex::Scratch& scratch) const;

  std::vector<Pattern> patterns_;
  std::unordered_map<uint64_t, int32_t> children_;  // node * 256 + byte: the node behind it
  std::vector<int32_t> pattern_of_node_{-1};
  std::bitset<256> first_bytes_;
  bool finds_any_ = false;
  Regex word_;
};

}  // namespace shoal
