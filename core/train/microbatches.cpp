// core/train/microbatches.cpp: contiguous shares, copied to the device.
#include "core/train/microbatches.h"

#include <algorithm>

namespace shoal {

SampleRange share_of(int64_t total, int64_t index, int64_t parts) {
  const int64_t begin = total * index / parts;
  return {.first = begin, .count = total * (index + 1) / parts - begin};
}

int64_t num_microbatches(int64_t sequences, int num_ranks, int64_t max_sequences) {
  const int64_t largest_share = (sequences + num_ranks - 1) / num_ranks;
  return std::max<int64_t>(1, (largest_share + max_sequences - 1) / max_sequences);
}

namespace {

Tensor upload(const std::vector<int32_t>& values, Stream& stream) {
  Tensor tensor = stream.activation({static_cast<int64_t>(values.size())}, DType::kI32);
  tensor.copy_from(values);
  return tensor;
}

}  // namespace

std::vector<Microbatch> make_microbatches(const Batch& batch, int64_t count, int64_t step, int64_t step_first,
                                          int64_t step_sequences, Stream& stream) {
  std::vector<Microbatch> microbatches;
  for (int64_t i = 0; i < count; ++i) {
    const SampleRange share = share_of(batch.range.count, i, count);
    Batch piece = batch.slice(share.first, share.count);
    Microbatch microbatch;
    microbatch.tokens = upload(piece.tokens, stream);
    microbatch.targets = upload(piece.targets, stream);
    microbatch.positions = upload(piece.positions, stream);
    microbatch.document_offsets = std::move(piece.document_offsets);
    for (int64_t s = 0; s <= share.count; ++s) microbatch.sequence_offsets.push_back(s * batch.seq_len);
    microbatch.step = step;
    microbatch.first_global_row = (batch.range.first + share.first - step_first) * batch.seq_len;
    microbatch.sequence_scale = 1.0 / static_cast<double>(step_sequences);
    microbatch.rows_share = static_cast<double>(piece.rows()) / static_cast<double>(step_sequences * batch.seq_len);
    microbatches.push_back(std::move(microbatch));
  }
  return microbatches;
}

}  // namespace shoal
