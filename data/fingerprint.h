// data/fingerprint.h: what training data are known by: so that a run that goes on notices when, under the same names,
// there are other data.
//
// A fingerprint costs no pass over the tokens. It covers all of an index (.idx), or names, sizes and headers of shards,
// and of the tokens a sample: a change to a few tokens that moves no document may go unseen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/checksum.h"

namespace shoal {

class InputFile;      // core/base/input_file.h
struct ConfigChange;  // core/config/compare.h

// One of data.train.
struct SourceFingerprint {
  int64_t tokens = 0;
  std::optional<int64_t> documents;  // absent where only reading all tokens would tell (llm.c)
  std::optional<int64_t> shards;     // absent where there are none (indexed datasets)
  std::string xxh3_128;              // 32 hexadecimal digits
};

struct DataFingerprint {
  std::vector<SourceFingerprint> train;
  std::string tokenizer;  // Tokenizer::fingerprint(); empty: none
};

// "600 documents, 20400 tokens, xxh3_128 …"
std::string describe(const SourceFingerprint& source);

// What differs, by the config's names: "data.train[1]", "data.tokenizer". Only what both have: that one has a source or
// a tokenizer more, the configs say. `prefixes`, of data.train now, for people; may be empty.
std::vector<ConfigChange> compare_data(const DataFingerprint& was, const DataFingerprint& is,
                                       const std::vector<std::string>& prefixes);

// XXH3-128 of what is added.
class FingerprintHash {
 public:
  void add(const void* data, int64_t bytes) { checksum_.add(data, bytes); }
  void add(std::string_view text) { add(text.data(), static_cast<int64_t>(text.size())); }
  // Of `bytes` of a file from `begin`: all where they are few (64 KiB), else 16 pieces of 4 KiB, evenly spread from the
  // first to the last.
  void add_sample(const InputFile& file, int64_t begin, int64_t bytes);
  // 32 hexadecimal digits.
  std::string text() const { return checksum_.text(); }

 private:
  Checksum128 checksum_;
};

}  // namespace shoal
