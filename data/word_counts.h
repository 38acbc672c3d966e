// data/word_counts.h: how often each piece of text occurs: all that training a BPE tokenizer needs to know of a corpus.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/pre_tokenizer.h"
#include "data/tokenizer_sentencepiece.h"

namespace shoal {

struct WordCount {
  std::string word;  // its bytes
  int64_t count = 0;
};

struct WordCounting {
  int num_threads = 1;
  // Beyond this, the rarest words are forgotten (those seen once, then twice, …) until half is left.
  int64_t max_bytes = int64_t{1} << 30;
};

struct WordCountsResult {
  std::vector<WordCount> words;  // ascending; the same for any number of threads
  int64_t num_text_bytes = 0;
  int64_t num_forgotten = 0;  // words that were forgotten to save memory, counted once each time
};

// Bytes that are not UTF-8 separate texts and are left out. `progress` is told the bytes of text read so far, now and
// then. Throws what `next` throws.
WordCountsResult count_words(const NextDocument& next, const PreTokenizer& pre_tokenizer, const WordCounting& options,
                             const std::function<void(int64_t)>& progress);

}  // namespace shoal
