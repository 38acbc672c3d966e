// data/indexed_dataset.h: reads Megatron-LM's token files, PREFIX.bin and PREFIX.idx, as one run of tokens.
//
//   .bin   token ids, back to back, little-endian
//   .idx   (little-endian)
//     0    "MMIDIDX\0\0"
//     9    u64     version = 1
//    17    u8      dtype code of .bin: 1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16 (6, 7: floats, refused here)
//    18    u64     S sequences
//    26    u64     D = documents + 1
//    34    i32[S]  tokens of each sequence
//          i64[S]  byte offset of each sequence in .bin: the running sum of the lengths
//          i64[D]  first sequence of each document; first 0, last S
//          i8[S]   modes, in multimodal data only; ignored
//
// Files are untrusted: everything above is checked when opening, ids when reading. Tokens are read with pread, not
// through a mapping: it shares the page cache just the same, and a .bin cut short during the run is then a short read
// and an Error instead of a SIGBUS. Of the .idx, 8 bytes a document stay in memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/input_file.h"
#include "data/token_dataset.h"

namespace shoal {

class IndexedDataset final : public TokenDataset {
 public:
  // Opens PREFIX.bin and PREFIX.idx. Throws Error naming file, place, expected and found.
  explicit IndexedDataset(const std::string& prefix);

  const std::string& prefix() const override { return prefix_; }
  int64_t num_documents() const { return static_cast<int64_t>(document_starts_.size()) - 1; }
  int64_t num_tokens() const override { return document_starts_.back(); }
  SourceFingerprint fingerprint() const override;

  // [num_documents + 1]: where each document starts among all tokens, ascending; back() == num_tokens().
  const std::vector<int64_t>& document_starts() const { return document_starts_; }

  void read(int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const override;
  std::vector<int32_t> document_starts_in(int64_t first, std::span<const int32_t> window) const override;

 private:
  std::string prefix_;
  InputFile bin_;
  int dtype_code_ = 0;
  std::string index_hash_;  // XXH3-128 of the .idx without modes
  std::vector<int64_t> document_starts_;
};

}  // namespace shoal
