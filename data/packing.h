// data/packing.h: documents packed end to end and cut into sequences: for training (drawn from a blend, shuffled,
// epoch after epoch) and for validation (every token once, in file order).
//
// Sequence i of a dataset is its tokens [i * seq_len, (i + 1) * seq_len], both ends included: consecutive sequences
// share one token, the last target of one and the first input of the next.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/blend.h"
#include "data/sample_stream.h"
#include "data/token_dataset.h"

namespace shoal {

struct PackingOptions {
  int64_t seq_len = 0;
  int64_t vocab_size = 0;       // tokens at or above it are an Error
  bool mask_documents = false;  // attention stays inside a document and positions restart there
};

struct TrainingSource {
  std::shared_ptr<const TokenDataset> dataset;
  double weight = 0;  // share of sequences; 0 for all sources: in proportion to their tokens
};

// Endless. A source of n whole sequences gives each once per epoch; a last partial one is left out. With `shuffle` the
// order within an epoch is a pseudo-random permutation of (seed, source, epoch), else that of the file.
class TrainingStream final : public SampleStream {
 public:
  // Throws Error for a source shorter than seq_len + 1 tokens, no source, or weights of which only some are 0.
  TrainingStream(std::vector<TrainingSource> sources, const PackingOptions& options, bool shuffle, uint64_t seed);

  int64_t seq_len() const override { return options_.seq_len; }
  int64_t num_samples() const override { return kEndless; }
  void read(int64_t index, Sample& sample) const override;

  // Of each source, in the order of the config.
  std::vector<SourceFingerprint> fingerprints() const;

  // Sequences of one epoch of every source.
  int64_t samples_per_epoch() const;

 private:
  std::vector<TrainingSource> sources_;
  PackingOptions options_;
  bool shuffle_;
  uint64_t seed_;
  Blend blend_;
};

// The sources one after the other, each whole and in order. The last sequence of a source is padded with masked
// targets, so that every token but a source's first is a target exactly once.
class ValidationStream final : public SampleStream {
 public:
  // Throws Error for no source, or a source of fewer than 2 tokens.
  ValidationStream(std::vector<std::shared_ptr<const TokenDataset>> sources, const PackingOptions& options);

  int64_t seq_len() const override { return options_.seq_len; }
  int64_t num_samples() const override { return first_sample_.back(); }
  void read(int64_t index, Sample& sample) const override;

 private:
  std::vector<std::shared_ptr<const TokenDataset>> sources_;
  PackingOptions options_;
  std::vector<int64_t> first_sample_;  // [sources + 1]
};

}  // namespace shoal
