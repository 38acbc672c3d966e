// core/train/microbatches.cpp: contiguous pieces, dealt in rounds, copied to the device.
#include "core/train/microbatches.h"

#include <algorithm>

#include "parallel/sharding.h"

namespace shoal {

int64_t num_microbatches(int64_t sequences, int num_ranks, int64_t max_sequences) {
  const int64_t round = num_ranks * max_sequences;
  return std::max<int64_t>(1, (sequences + round - 1) / round);
}

std::vector<SampleRange> deal_sequences(SampleRange sequences, int rank, int num_ranks, int64_t count) {
  std::vector<SampleRange> mine;
  for (int64_t round = 0; round < count; ++round) {
    const IndexRange range = part_of(sequences.count, round * num_ranks + rank, count * num_ranks);
    mine.push_back({.first = sequences.first + range.begin, .count = range.count});
  }
  return mine;
}

namespace {

Tensor upload(const std::vector<int32_t>& values, Stream& stream) {
  Tensor tensor = stream.activation({static_cast<int64_t>(values.size())}, DType::kI32);
  tensor.copy_from(values);
  return tensor;
}

// Depth k reads token i + k + 1 and predicts the one behind it, which is the main target k + 1 rows on.
MtpTargets further_targets(const Batch& batch, int64_t depth, Stream& stream) {
  const int64_t ahead = depth + 1;
  std::vector<int32_t> tokens(batch.tokens.size(), 0), targets(batch.tokens.size(), -1);
  MtpTargets further;
  for (size_t d = 1; d < batch.document_offsets.size(); ++d) {
    const int64_t end = batch.document_offsets[d];
    for (int64_t i = batch.document_offsets[d - 1]; i + ahead < end; ++i) {
      tokens[static_cast<size_t>(i)] = batch.tokens[static_cast<size_t>(i + ahead)];
      targets[static_cast<size_t>(i)] = batch.targets[static_cast<size_t>(i + ahead)];
      if (targets[static_cast<size_t>(i)] >= 0) ++further.scored_tokens;
    }
  }
  further.tokens = upload(tokens, stream);
  further.targets = upload(targets, stream);
  return further;
}

}  // namespace

std::vector<Microbatch> make_microbatches(const std::vector<Batch>& batches, int64_t step, SampleRange sequences,
                                          int64_t mtp_depth, Stream& stream) {
  std::vector<Microbatch> microbatches;
  for (const Batch& batch : batches) {
    Microbatch microbatch;
    microbatch.tokens = upload(batch.tokens, stream);
    microbatch.targets = upload(batch.targets, stream);
    microbatch.positions = upload(batch.positions, stream);
    for (int64_t depth = 0; depth < mtp_depth; ++depth) {
      microbatch.mtp.push_back(further_targets(batch, depth, stream));
    }
    microbatch.document_offsets = batch.document_offsets;
    for (int64_t s = 0; s <= batch.range.count; ++s) microbatch.sequence_offsets.push_back(s * batch.seq_len);
    microbatch.step = step;
    microbatch.first_global_row = (batch.range.first - sequences.first) * batch.seq_len;
    microbatch.sequence_scale = 1.0 / static_cast<double>(sequences.count);
    microbatch.rows_share = static_cast<double>(batch.range.count) / static_cast<double>(sequences.count);
    microbatches.push_back(std::move(microbatch));
  }
  return microbatches;
}

}  // namespace shoal
