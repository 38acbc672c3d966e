// data/added_tokens.cpp: a trie over bytes, walked from every place where a token may begin.
#include "data/added_tokens.h"

#include <algorithm>
#include <array>

namespace shoal {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Bytes of the white space (Unicode's White_Space) that `text` begins with; 0 when it begins with something else.
size_t white_space_at(std::string_view text) {
  if (text.empty()) return 0;
  const char c = text.front();
  if (c == ' ' || (c >= '\t' && c <= '\r')) return 1;
  if (static_cast<unsigned char>(c) < 0x80) return 0;
  for (const std::string_view space : {"\xC2\x85", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\xA8", "\xE2\x80\xA9",
                                       "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"}) {
    if (text.starts_with(space)) return space.size();
  }
  const bool is_en_quad_to_hair = text.starts_with("\xE2\x80") && text.size() >= 3 &&
                                  static_cast<unsigned char>(text[2]) >= 0x80 &&
                                  static_cast<unsigned char>(text[2]) <= 0x8A;  // U+2000 to U+200A
  return is_en_quad_to_hair ? 3 : 0;
}

size_t leading_white_space(std::string_view text) {
  size_t at = 0;
  while (const size_t length = white_space_at(text.substr(at))) at += length;
  return at;
}

size_t last_character(std::string_view text) {
  size_t at = text.size();
  while (at > 0 && is_continuation(text[--at])) continue;
  return at;
}

// Where the white space at the end of `text` begins.
size_t trailing_white_space(std::string_view text) {
  for (;;) {
    const size_t last = last_character(text);
    if (text.empty() || white_space_at(text.substr(last)) == 0) return text.size();
    text = text.substr(0, last);
  }
}

}  // namespace

AddedTokenFinder::AddedTokenFinder()
    : word_(R"(\A[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])", "the pattern of words beside added tokens") {}

void AddedTokenFinder::add(const AddedToken& token, std::string_view content) {
  if (content.empty()) return;
  int32_t node = 0;
  for (const char c : content) {
    const uint64_t key = static_cast<uint64_t>(node) * 256 + static_cast<unsigned char>(c);
    const auto [child, is_new] = children_.try_emplace(key, static_cast<int32_t>(pattern_of_node_.size()));
    if (is_new) pattern_of_node_.push_back(-1);
    node = child->second;
  }
  first_bytes_.set(static_cast<unsigned char>(content.front()));
  int32_t& pattern = pattern_of_node_[static_cast<size_t>(node)];
  if (pattern >= 0) return;  // two that normalisation made equal: the first counts
  pattern = static_cast<int32_t>(patterns_.size());
  patterns_.push_back({.id = token.id,
                       .special = token.special,
                       .single_word = token.single_word,
                       .lstrip = token.lstrip,
                       .rstrip = token.rstrip});
  finds_any_ |= !token.special;
}

int32_t AddedTokenFinder::longest_at(std::string_view text, size_t at, size_t& length) const {
  int32_t found = -1;
  uint64_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto child = children_.find(node * 256 + static_cast<unsigned char>(text[i]));
    if (child == children_.end()) break;
    node = static_cast<uint64_t>(child->second);
    if (pattern_of_node_[node] >= 0) {
      found = pattern_of_node_[node];
      length = i + 1 - at;
    }
  }
  return found;
}

bool AddedTokenFinder::is_word_before(std::string_view text, Regex::Scratch& scratch) const {
  return !text.empty() && is_word_behind(text.substr(last_character(text)), scratch);
}

bool AddedTokenFinder::is_word_behind(std::string_view text, Regex::Scratch& scratch) const {
  Regex::Match match;
  return !text.empty() && word_.find(text, 0, scratch, match);
}

void AddedTokenFinder::split(std::string_view text, Regex::Scratch& scratch,
                             const std::function<void(std::string_view)>& on_text,
                             const std::function<void(int32_t)>& on_token) const {
  size_t done = 0;  // of the text, up to here
  size_t at = 0;
  while (at < text.size()) {
    size_t length = 0;
    const int32_t found = first_bytes_.test(static_cast<unsigned char>(text[at])) ? longest_at(text, at, length) : -1;
    if (found < 0) {
      ++at;
      continue;
    }
    const Pattern& pattern = patterns_[static_cast<size_t>(found)];
    size_t begin = at;
    size_t end = at + length;
    at = end;  // the search goes on behind the match, whether it counts or not
    if (pattern.special) continue;
    if (pattern.single_word &&
        (is_word_before(text.substr(0, begin), scratch) || is_word_behind(text.substr(end), scratch))) {
      continue;
    }
    // Nothing before `done` is looked at again: tokens of white space alone would cost the square of the text.
    if (pattern.lstrip) begin = done + trailing_white_space(text.substr(done, std::max(begin, done) - done));
    if (pattern.rstrip) end = std::max(end, done) + leading_white_space(text.substr(std::max(end, done)));
    if (begin > done) on_text(text.substr(done, begin - done));
    on_token(pattern.id);
    done = std::max(done, end);
  }
  if (done < text.size()) on_text(text.substr(done));
}

}  // namespace shoal
