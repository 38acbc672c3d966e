// data/llmc_dataset.h: reads llm.c's token shards (also modded-nanogpt's), a file or a glob of them, as one run of
// tokens.
//
//     0   i32[256]  header, little-endian: [0] magic, [1] version, [2] number of tokens, else unused
//                   20240520, 1: GPT-2's tokens, u16;  20240801, 7: Llama 3's, u32
//  1024   tokens, to the end of the file exactly
//
// Every document begins with <|endoftext|> (50256, GPT-2) or <|begin_of_text|> (128000, Llama 3), and may run on from
// one shard to the next in the order of their names. Nothing says where documents begin but those tokens, so they are
// looked for in each window that is read: opening a terabyte takes the first 4 KiB of each shard.
//
// Files are untrusted: header and size are checked when opening, ids when reading. Tokens are read with pread (see
// data/indexed_dataset.h): a shard cut short during the run is an Error, not a SIGBUS.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/input_file.h"
#include "data/token_dataset.h"

namespace shoal {

class LlmcDataset final : public TokenDataset {
 public:
  // `pattern`: a path, or one with * ? [ ] as in a shell; matches are taken in the order of their bytes. Throws Error
  // naming file, place, expected and found: no match, a wrong magic, version or size, shards of two kinds.
  explicit LlmcDataset(const std::string& pattern);

  const std::string& prefix() const override { return pattern_; }
  int64_t num_tokens() const override { return first_tokens_.back(); }
  SourceFingerprint fingerprint() const override;
  void read(int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const override;
  std::vector<int32_t> document_starts_in(int64_t first, std::span<const int32_t> window) const override;

  // The token that documents begin with.
  int32_t document_token() const { return document_token_; }

 private:
  struct Shard {
    std::string path;
    int64_t size_bytes = 0;
    std::shared_ptr<const InputFile> file;  // null when closed
  };

  std::shared_ptr<const InputFile> open_shard(size_t shard) const;
  void read_in_shard(size_t shard, int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const;

  std::string pattern_;
  int64_t token_bytes_ = 0;
  int32_t document_token_ = 0;
  std::string hash_;                      // XXH3-128 of each shard's name, size and first 4 KiB
  std::vector<int64_t> first_tokens_{0};  // [shards + 1]
  // A system lets a process open some thousand files, and there may be more shards.
  mutable std::mutex mutex_;
  mutable std::vector<Shard> shards_;
  mutable std::deque<size_t> open_order_;
};

}  // namespace shoal
