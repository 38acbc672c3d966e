// core/train/microbatches.cpp: contiguous pieces, dealt in rounds, copied to the device.
#include "core/train/microbatches.h"

#include <algorithm>

namespace shoal {

SampleRange share_of(int64_t total, int64_t index, int64_t parts) {
  const int64_t begin = total * index / parts;
  return {.first = begin, .count = total * (index + 1) / parts - begin};
}

int64_t num_microbatches(int64_t sequences, int num_ranks, int64_t max_sequences) {
  const int64_t round = num_ranks * max_sequences;
  return std::max<int64_t>(1, (sequences + round - 1) / round);
}

std::vector<SampleRange> deal_sequences(SampleRange sequences, int rank, int num_ranks, int64_t count) {
  std::vector<SampleRange> mine;
  for (int64_t round = 0; round < count; ++round) {
    SampleRange range = share_of(sequences.count, round * num_ranks + rank, count * num_ranks);
    range.first += sequences.first;
    mine.push_back(range);
  }
  return mine;
}

namespace {

Tensor upload(const std::vector<int32_t>& values, Stream& stream) {
  Tensor tensor = stream.activation({static_cast<int64_t>(values.size())}, DType::kI32);
  tensor.copy_from(values);
  return tensor;
}

}  // namespace

std::vector<Microbatch> make_microbatches(const std::vector<Batch>& batches, int64_t step, SampleRange sequences,
                                          Stream& stream) {
  std::vector<Microbatch> microbatches;
  for (const Batch& batch : batches) {
    Microbatch microbatch;
    microbatch.tokens = upload(batch.tokens, stream);
    microbatch.targets = upload(batch.targets, stream);
    microbatch.positions = upload(batch.positions, stream);
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
