// data/tokenizer_byte.h: every byte is a token (id = its value), and 256 ends a document.
#pragma once

#include "data/tokenizer.h"

namespace shoal {

class ByteTokenizer final : public Tokenizer {
 public:
  std::string_view name() const override { return "bytes"; }
  std::string fingerprint() const override { return "bytes"; }
  int32_t vocab_size() const override { return 257; }
  int32_t eod_id() const override { return 256; }
  void encode(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string_view bytes_of(int32_t id) const override;
  bool is_lossless() const override { return true; }
};

}  // namespace shoal
