// core/train/evaluator.h: the loss of a model on held-out text: per token, and per byte where the tokenizer tells.
#pragma once

#include <memory>
#include <vector>

#include "core/train/metrics.h"
#include "core/train/model_runtime.h"
#include "data/loader.h"
#include "data/tokenizer.h"

namespace shoal {

class Evaluator {
 public:
  // `byte_lengths`: bytes of every token id (Tokenizer::byte_lengths); empty: bits per byte stay unknown.
  // `max_sequences` 0: all of the stream.
  Evaluator(std::shared_ptr<const SampleStream> stream, std::vector<int32_t> byte_lengths, int64_t max_sequences,
            int64_t microbatch);

  // Collective over `group`, which splits the sequences. Fills val_tokens, val_loss, val_perplexity, val_bits_per_byte:
  // bitwise the same on any number of ranks, where forward is.
  ValidationMetrics run(ModelRuntime& runtime, Communicator& group) const;

 private:
  struct Sums {
    double nats = 0;       // over every scored token
    double text_nats = 0;  // over scored tokens that stand for bytes
    double tokens = 0;
    double bytes = 0;
    void add(const Sums& other);
  };
  // Of each sequence of a batch.
  std::vector<Sums> sums_of(const Batch& batch, const Tensor& losses, Stream& stream) const;
  Sums sum_over_ranks(const std::vector<Sums>& sequences, Communicator& group, Stream& stream) const;

  std::shared_ptr<const SampleStream> stream_;
  std::vector<int32_t> byte_lengths_;
  int64_t num_sequences_;
  int64_t microbatch_;
};

}  // namespace shoal
