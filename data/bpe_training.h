// data/bpe_training.h: makes a tokenizer.json of byte-level BPE from text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_sentencepiece.h"

namespace shoal {

struct BpeTraining {
  int64_t vocab_size = 8192;
  std::string pre_tokenizer = "llama3";  // one of bpe_pre_tokenizer_names()
  // Behind <|endoftext|>, which ends documents and is token 0.
  std::vector<std::string> special_tokens = {};
  int64_t min_frequency = 2;  // pairs seen less often are not merged
  int num_threads = 1;
  // Told now and then what is going on.
  std::function<void(std::string_view)> progress = [](std::string_view) {};
};

// "gpt2", "llama3", "qwen", "deepseek": how these models cut text into pieces.
std::vector<std::string> bpe_pre_tokenizer_names();

// A "post_processor" of a tokenizer.json: other programs then put the token in front of a prompt, as Shoal puts its end
// of document, and as the model saw every document in training.
std::string starting_with(std::string_view token, int32_t id);

// The contents of the file: ids are the special tokens', then the 256 bytes' in the order of their characters, then
// merges' in the order they were found. Lossless: there is no normalizer. Equal input gives equal bytes, whatever the
// number of threads. Throws Error when there is too little text for the vocabulary, or what `next` throws.
std::string train_bpe(const NextDocument& next, const BpeTraining& options);

}  // namespace shoal
