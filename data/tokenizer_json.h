// data/tokenizer_json.h: what a tokenizer.json of Hugging Face's tokenizers says, checked, for byte-level BPE.
//
// A pipeline of stages (added_tokens, normalizer, pre_tokenizer, model, decoder). What is understood: a normalizer that
// is absent or NFC; pre_tokenizers Split, Digits and ByteLevel, alone or in a Sequence that ends with ByteLevel; a
// model of type BPE; a decoder that is absent or ByteLevel. Everything else is refused by name. post_processor,
// truncation and padding are left aside: they are about prompts, and training puts its own end behind each document.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/pre_tokenizer.h"

namespace shoal {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // never found in text here: text is what documents say, not what controls the model
  bool normalized = true;    // looked for after the normalizer, not before
  bool single_word = false;  // only where no letter or digit is beside it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;
};

struct BpeMerge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
};

struct TokenizerJson {
  std::vector<std::string> tokens;  // [vocab]: of the model as it writes them (byte characters); else of added tokens
  int64_t num_model_tokens = 0;     // tokens in model.vocab; added ones beyond it have larger ids or share theirs
  std::vector<char> in_model;       // [vocab]: whether the token is in model.vocab
  std::vector<BpeMerge> merges;     // first the one that goes first
  std::vector<int32_t> byte_ids;    // [256]: the token of each byte, -1 for none
  std::vector<AddedToken> added_tokens;  // ascending ids
  std::vector<SplitStage> stages;
  bool nfc = false;
  bool ignore_merges = false;  // a piece that is a token as a whole is that token
};

// Throws Error naming `path`, the place, what was expected and found.
TokenizerJson parse_tokenizer_json(std::string_view contents, const std::string& path);

// Stages of a "pre_tokenizer" value, which must end in bytes.
std::vector<SplitStage> parse_pre_tokenizer(std::string_view json_text, const std::string& path);

}  // namespace shoal
