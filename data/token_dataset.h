// data/token_dataset.h: one run of tokens on disk, whatever the format of its files.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/fingerprint.h"

namespace shoal {

// Immutable and thread-safe once made.
class TokenDataset {
 public:
  virtual ~TokenDataset() = default;

  // As the config names it.
  virtual const std::string& prefix() const = 0;
  virtual int64_t num_tokens() const = 0;
  // The same wherever the files lie. Throws Error for an unreadable file.
  virtual SourceFingerprint fingerprint() const = 0;

  // tokens[i] = token first + i. Throws Error when one is negative or not below `vocab_size`, or when a file became
  // shorter since it was opened.
  virtual void read(int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const = 0;

  // Where documents start behind `first` in a window of tokens that read() gave: i for token first + i, ascending,
  // without 0.
  virtual std::vector<int32_t> document_starts_in(int64_t first, std::span<const int32_t> window) const = 0;
};

// A name that ends in .bin, or holds one of * ? [, names llm.c shards (data/llmc_dataset.h); any other is the prefix of
// an indexed dataset (data/indexed_dataset.h). Throws Error for files that are missing or wrong.
std::shared_ptr<const TokenDataset> open_token_dataset(const std::string& prefix);

}  // namespace shoal
