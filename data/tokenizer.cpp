// data/tokenizer.cpp: what all tokenizers share, and which one a name stands for.
#include "data/tokenizer.h"

#include "data/tokenizer_bpe.h"
#include "data/tokenizer_byte.h"
#include "data/tokenizer_sentencepiece.h"

namespace shoal {

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += bytes_of(id);
  return text;
}

std::vector<int32_t> Tokenizer::byte_lengths() const {
  std::vector<int32_t> lengths;
  lengths.reserve(static_cast<size_t>(vocab_size()));
  for (int32_t id = 0; id < vocab_size(); ++id) lengths.push_back(static_cast<int32_t>(bytes_of(id).size()));
  return lengths;
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path) {
  if (name_or_path == "bytes") return std::make_unique<ByteTokenizer>();
  if (name_or_path.ends_with(".json")) return std::make_unique<BpeTokenizer>(name_or_path);
  return std::make_unique<SentencePieceTokenizer>(name_or_path);
}

}  // namespace shoal
