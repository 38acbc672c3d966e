// data/ngram_entropy.h: how well counting alone predicts the validation tokens: the bars a trained model must pass.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/token_dataset.h"

namespace shoal {

// Mean nats per validation token that has a token before it (the targets of ValidationStream), under training counts
// smoothed by adding k to each:
//   unigram  p(b)     = (count(b) + k) / (tokens + k * vocab)
//   bigram   p(b | a) = (count(a b) + k) / (count(a) + k * vocab)
// with the k of a grid that is best for these validation tokens. The bigram runs across document ends, as training
// does.
struct NgramEntropy {
  double unigram_nats = 0;
  double unigram_k = 0;
  double bigram_nats = 0;
  double bigram_k = 0;
  int64_t num_training_tokens = 0;
  int64_t num_scored_tokens = 0;
};

// Memory follows the vocabulary and the validation data, not the training data. Throws Error for no data, or a token
// outside the vocabulary.
NgramEntropy measure_ngram_entropy(const std::vector<std::shared_ptr<const TokenDataset>>& training,
                                   const std::vector<std::shared_ptr<const TokenDataset>>& validation,
                                   int64_t vocab_size);

}  // namespace shoal
