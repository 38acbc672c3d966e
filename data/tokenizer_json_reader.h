// data/tokenizer_json_reader.h: reads the JSON of a tokenizer.json, holding its two large tables compactly.
//
// A tree of JSON values takes many times the bytes of its text. The vocabulary and the merges are nearly all of the
// file, so they go to flat tables, and the number of all other values is limited: memory follows the file's size.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

// Strings back to back.
class StringTable {
 public:
  size_t size() const { return ends_.size(); }
  void add(std::string_view text) {
    text_ += text;
    ends_.push_back(static_cast<uint32_t>(text_.size()));
  }
  std::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(text_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string text_;
  std::vector<uint32_t> ends_;
};

struct RawTokenizerJson {
  nlohmann::json root;  // without model.vocab and model.merges
  bool has_vocab = false;
  StringTable tokens;        // of model.vocab, in the order of the file
  std::vector<int32_t> ids;  // [tokens]
  bool has_merges = false;
  StringTable merges;  // of model.merges, both forms: left and right by turns
};

constexpr int64_t kMaxTokenizerJsonBytes = int64_t{64} << 20;
constexpr int64_t kMaxBpeTokens = int64_t{1} << 22;

// Throws Error, naming `path`, for contents that are not one JSON object in UTF-8, are nested more than 64 deep, name a
// key twice, or whose tables are of another shape or size than a tokenizer's.
RawTokenizerJson read_tokenizer_json(std::string_view contents, const std::string& path);

}  // namespace shoal
