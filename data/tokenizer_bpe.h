// data/tokenizer_bpe.h: byte-level BPE from a tokenizer.json (GPT-2, Llama 3, Qwen, DeepSeek-V3), used.
//
// Ids are those of Hugging Face's tokenizers, asked for text without special tokens: documents are text, and what looks
// like "<|endoftext|>" in them is encoded as its characters. Bytes that are not UTF-8, which that library does not
// take, are encoded one by one between the valid stretches. Letters and marks that Unicode got after version 14 may be
// cut otherwise: the two libraries' tables are of different years.
// How fast: README.md, "Tokenizers and token files".
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/added_tokens.h"
#include "data/bpe_merges.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"

namespace shoal {

class BpeTokenizer final : public Tokenizer {
 public:
  // Throws Error for a file that is missing, damaged, larger than 64 MiB, that is no byte-level BPE as
  // data/tokenizer_json.h tells it, or has no special token that ends a document. That is the first of these that is
  // there: <|endoftext|>, <|end_of_text|>, <｜end▁of▁sentence｜>, <|eot|>, </s>, <eos>, <|bos|>; else the only special
  // token.
  explicit BpeTokenizer(const std::string& path);
  // From the contents of a file; `path` is for messages.
  BpeTokenizer(std::string contents, const std::string& path);
  ~BpeTokenizer() override;

  std::string_view name() const override { return "bpe"; }
  std::string fingerprint() const override { return fingerprint_; }
  int32_t vocab_size() const override { return static_cast<int32_t>(bytes_.size()); }
  int32_t eod_id() const override { return eod_id_; }
  void encode(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string_view bytes_of(int32_t id) const override;
  bool is_lossless() const override { return lossless_; }
  std::string_view file_bytes() const override { return contents_; }

 private:
  struct Scratch;
  BpeTokenizer(std::string contents, const std::string& path, TokenizerJson json);

  std::unique_ptr<Scratch> take_scratch() const;
  void set_bytes(const TokenizerJson& json);
  void find_eod(const TokenizerJson& json);
  void encode_valid(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const;
  void encode_normalized(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const;
  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

  std::string path_;
  std::string contents_;            // of the file
  std::string fingerprint_;         // XXH3-128 of the contents
  std::vector<std::string> bytes_;  // [vocab]
  std::vector<int32_t> byte_ids_;   // [256], -1 for none
  int32_t eod_id_ = -1;
  bool lossless_ = false;
  bool nfc_ = false;
  bool ignore_merges_ = false;
  std::unordered_map<std::string_view, int32_t> whole_pieces_;  // when merges are ignored: tokens by their bytes
  AddedTokenFinder raw_tokens_;                                 // looked for before the normalizer
  AddedTokenFinder normalized_tokens_;                          // and after it
  PreTokenizer pre_tokenizer_;
  BpeMerges merges_;
  // Warm ones, that no call uses now: as many as calls ran at once.
  mutable std::mutex scratches_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> scratches_;
};

}  // namespace shoal
