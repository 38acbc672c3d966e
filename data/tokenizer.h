// data/tokenizer.h: text to token ids and back; what every tokenizer promises.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

// Immutable and thread-safe once made.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // "bytes", "sentencepiece" or "bpe".
  virtual std::string_view name() const = 0;
  // Equal for tokenizers that give every text the same ids: recorded beside token files, compared before training.
  virtual std::string fingerprint() const = 0;

  // Ids are 0 … vocab_size() - 1.
  virtual int32_t vocab_size() const = 0;
  // Ends every document. No text encodes to it.
  virtual int32_t eod_id() const = 0;

  // Appends the ids of `text`, any bytes, without the end of document.
  virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;

  // What a token writes; empty for special tokens (end of document), which therefore count 0 bytes and stay out of
  // both sums of bits per byte = Σ nats / (ln 2 · Σ bytes). Throws Error for an id outside the vocabulary.
  virtual std::string_view bytes_of(int32_t id) const = 0;

  // decode(encode(x)) == x for every string of bytes x. Otherwise bits per byte is about other bytes than the text's.
  virtual bool is_lossless() const = 0;

  // What it was made from: the contents of its file as they were; empty when it has none ("bytes").
  virtual std::string_view file_bytes() const { return {}; }

  // The concatenation of bytes_of.
  std::string decode(std::span<const int32_t> ids) const;
  // bytes_of(id).size() for every id of the vocabulary.
  std::vector<int32_t> byte_lengths() const;
};

// "bytes", the path of a tokenizer.json (it ends in .json), or that of a SentencePiece .model. Throws Error.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path);

}  // namespace shoal
