// tests/data/small_bpe.h: a tokenizer.json of 281 tokens, made in the test: <|endoftext|>, 256 bytes, 24 merges.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "data/byte_alphabet.h"
#include "data/tokenizer_bpe.h"

namespace shoal {

using nlohmann::json;

inline const std::string kLlama3Pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)"
                                          R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

inline json byte_level(bool use_regex, bool prefix_space = false) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

inline json split(const std::string& pattern, const std::string& behavior = "Isolated", bool invert = false,
                  const std::string& kind = "Regex") {
  return {{"type", "Split"}, {"pattern", {{kind, pattern}}}, {"behavior", behavior}, {"invert", invert}};
}

// The stages, then bytes.
inline json sequence(std::vector<json> stages) {
  stages.push_back(byte_level(false));
  return {{"type", "Sequence"}, {"pretokenizers", stages}};
}

inline json added_token(int id, const std::string& content, bool special = false) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

inline json small_bpe(const json& pre_tokenizer = byte_level(true)) {
  json vocab = {{"<|endoftext|>", 0}};
  std::vector<std::pair<char32_t, int>> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(byte_alphabet()[static_cast<size_t>(byte)], byte);
  std::ranges::sort(bytes);
  for (const auto& [character, byte] : bytes) {
    const char c = static_cast<char>(byte);
    vocab[to_byte_characters({&c, 1})] = vocab.size();
  }
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"h", "e"}, {"l", "l"},     {"he", "ll"}, {"hell", "o"},    {" ", "w"},           {"o", "r"},       {" w", "or"},
      {"l", "d"}, {" wor", "ld"}, {" ", " "},   {"  ", "  "},     {"1", "2"},           {"12", "3"},      {"3", "4"},
      {"'", "s"}, {"!", "!"},     {"\n", "\n"}, {"\xE4", "\xB8"}, {"\xE4\xB8", "\xAD"}, {"\xC3", "\xA9"}, {"a", "b"},
      {"b", "c"}, {"ab", "c"},    {"a", "bc"},  {" ", "hello"}};
  json merges = json::array();
  for (const auto& [left, right] : pairs) {
    merges.push_back({to_byte_characters(left), to_byte_characters(right)});
    const std::string result = to_byte_characters(left + right);
    if (!vocab.contains(result)) vocab[result] = vocab.size();
  }
  return {{"version", "1.0"},
          {"added_tokens", json::array({added_token(0, "<|endoftext|>", true)})},
          {"normalizer", nullptr},
          {"pre_tokenizer", pre_tokenizer},
          {"decoder", byte_level(true, true)},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

}  // namespace shoal
