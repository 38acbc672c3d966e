// data/sample_stream.h: sequences by global number: what the trainer asks for, whatever the number of ranks.
#pragma once

#include <cstdint>
#include <vector>

namespace shoal {

// One sequence of a batch. All vectors but `document_starts` have seq_len elements.
struct Sample {
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;          // the token that follows; -1: masked (padding)
  std::vector<int32_t> positions;        // from 0; restarting at each document when documents are masked
  std::vector<int32_t> document_starts;  // ascending, first 0: where attention may not look further back
};

// Sample i is a pure function of i: the data position of a run is one integer, the number of samples consumed, and
// any rank can compute any sample. Thread-safe.
class SampleStream {
 public:
  virtual ~SampleStream() = default;
  virtual int64_t seq_len() const = 0;
  // Number of samples; kEndless when epochs follow each other for ever.
  virtual int64_t num_samples() const = 0;
  // Overwrites `sample`. Throws Error for an unreadable file or a token outside the vocabulary.
  virtual void read(int64_t index, Sample& sample) const = 0;

  static constexpr int64_t kEndless = INT64_MAX;
};

}  // namespace shoal
