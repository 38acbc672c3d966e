// data/bpe_learner.h: which merges a corpus asks for: again and again the pair of tokens that stands side by side most.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "data/tokenizer_json.h"
#include "data/word_counts.h"

namespace shoal {

struct BpeLearning {
  int64_t vocab_size = 0;                         // tokens to end with, all included
  int64_t min_frequency = 1;                      // rarer pairs are not merged
  std::vector<int32_t> byte_ids;                  // [256]
  int32_t first_new_id = 0;                       // of merged tokens
  std::unordered_set<std::string> never_results;  // bytes of tokens that no merge may make (special ones)
};

struct LearnedBpe {
  std::vector<BpeMerge> merges;
  std::vector<std::string> new_tokens;  // bytes of first_new_id, …
};

// Counts of pairs are kept up to date word by word, and only words that hold the merged pair are looked at. Of equally
// frequent pairs the smaller (left id, right id) goes first. A result that is a token already keeps its id. Ends early
// when no pair is left. `progress` is told the number of tokens so far.
LearnedBpe learn_bpe(std::span<const WordCount> words, const BpeLearning& options,
                     const std::function<void(int64_t)>& progress);

}  // namespace shoal
