// core/huggingface/tokenizer.h: a tokenizer of ours as the files that Hugging Face's read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/huggingface/config.h"
#include "data/tokenizer.h"

namespace shoal {

struct HfTokenizerFiles {
  std::map<std::string, std::string> files;  // name → contents
  HfSpecialIds ids;                          // as given, else the end of a document, with which a text starts too
  std::vector<std::string> notes;
};

// tokenizer.json with tokenizer_config.json and special_tokens_map.json:
//   bytes          a byte-level BPE without merges
//   SentencePiece  its BPE in their words, beside tokenizer.model itself; other kinds: tokenizer.model alone
//   others         their tokenizer.json as it is
// Those made here put the end of a document in front of a text, as `shoal generate` does. They give the same ids for
// text in UTF-8, with two exceptions: U+2581 is taken for a space by SentencePiece's, and the names of special tokens,
// where a text has them, for those tokens. `ids`: those that are known to be others than the end of a document.
HfTokenizerFiles hf_tokenizer_files(const Tokenizer& tokenizer, int64_t max_positions, const HfSpecialIds& ids = {});

}  // namespace shoal
