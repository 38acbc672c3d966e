// data/tokenizer_sentencepiece.h: SentencePiece models (Kudo and Richardson, arXiv:1808.06226), used and trained.
//
// A model trained here is lossless for every string of bytes: no normalisation, all spaces kept, a piece for "\n", and
// 256 byte pieces for whatever has no piece of its own. Two things the library itself would not give back are encoded
// around it, as byte pieces: U+2581 (its escape for a space) and bytes that are not UTF-8.
//
// The library exports another protobuf than ours: its headers are seen by two .cpp files here, which see no protobuf.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/piece_boundaries.h"
#include "data/tokenizer.h"
#include "data/word_cache.h"

namespace shoal {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // Throws Error for a file that is missing, damaged, larger than 64 MiB, without a control piece for the end of a
  // document (eos), or that normalises text.
  explicit SentencePieceTokenizer(const std::string& path);
  ~SentencePieceTokenizer() override;

  std::string_view name() const override { return "sentencepiece"; }
  std::string fingerprint() const override { return fingerprint_; }
  int32_t vocab_size() const override { return static_cast<int32_t>(bytes_.size()); }
  int32_t eod_id() const override { return eod_id_; }
  void encode(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string_view bytes_of(int32_t id) const override;
  bool is_lossless() const override { return lossless_; }
  std::string_view file_bytes() const override { return contents_; }

 private:
  struct Library;

  void encode_whole(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_words(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_bytes(std::string_view text, std::vector<int32_t>& ids) const;

  std::unique_ptr<Library> library_;
  std::string path_;
  std::string contents_;            // of the file
  std::string fingerprint_;         // XXH3-128 of the contents
  std::vector<std::string> bytes_;  // [vocab]
  std::vector<int32_t> byte_ids_;   // [256] when the model has byte pieces
  int32_t eod_id_ = -1;
  bool lossless_ = false;
  bool is_bpe_ = false;
  PieceBoundaries boundaries_;
  mutable WordCache words_;
};

struct SentencePieceTraining {
  int64_t vocab_size = 8192;
  // Lines of text, drawn at random (always the same ones) when there are more.
  int64_t num_sentences = 200'000;
  // Share of the characters that get a piece; the rest is written in bytes.
  double character_coverage = 1.0;
};

// Gives the next document and true, or false at the end.
using NextDocument = std::function<bool(std::string& document)>;

// Trains a lossless BPE model and returns the .model's contents; equal input gives equal bytes. Throws Error when there
// is too little text for the vocabulary, or what `next` throws.
std::string train_sentencepiece(const NextDocument& next, const SentencePieceTraining& options);

}  // namespace shoal
