// core/train/evaluator.cpp: every rank runs the same number of microbatches, some of them empty.
#include "core/train/evaluator.h"

#include <algorithm>

#include "core/train/microbatches.h"
#include "kernels/elementwise.h"

namespace shoal {

Evaluator::Evaluator(std::shared_ptr<const SampleStream> stream, std::vector<int32_t> byte_lengths,
                     int64_t max_sequences, int64_t microbatch)
    : stream_(std::move(stream)), byte_lengths_(std::move(byte_lengths)), microbatch_(microbatch) {
  num_sequences_ = stream_->num_samples();
  if (max_sequences > 0) num_sequences_ = std::min(num_sequences_, max_sequences);
}

void Evaluator::Sums::add(const Sums& other) {
  nats += other.nats;
  text_nats += other.text_nats;
  tokens += other.tokens;
  bytes += other.bytes;
}

std::vector<Evaluator::Sums> Evaluator::sums_of(const Batch& batch, const Tensor& losses, Stream& stream) const {
  const Tensor wide = stream.workspace(losses.shape(), DType::kF64);
  cast(wide, losses, stream);
  const std::vector<double> nats =
      read_to_host<double>(wide, stream, [&] { return std::vector<double>(batch.targets.size(), 0.0); });
  std::vector<Sums> sums(static_cast<size_t>(batch.range.count));
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] < 0) continue;
    Sums& sequence = sums[i / static_cast<size_t>(batch.seq_len)];
    sequence.tokens += 1;
    sequence.nats += nats[i];
    if (byte_lengths_.empty()) continue;
    const auto target = static_cast<size_t>(batch.targets[i]);
    if (target >= byte_lengths_.size()) {
      fail(
          "validation sequence {} holds token id {}, but the tokenizer has ids 0 to {}: the data was tokenized with "
          "another; use its tokenizer, or tokenize it anew",
          batch.range.first + static_cast<int64_t>(i) / batch.seq_len, target, byte_lengths_.size() - 1);
    }
    const int32_t bytes = byte_lengths_[target];
    sequence.bytes += bytes;
    if (bytes > 0) sequence.text_nats += nats[i];
  }
  return sums;
}

// Every sequence has its place in a table, zero where another rank computed it: the sum over ranks only collects them.
Evaluator::Sums Evaluator::sum_over_ranks(const std::vector<Sums>& sequences, Communicator& group,
                                          Stream& stream) const {
  std::vector<double> values;
  for (const Sums& s : sequences) values.insert(values.end(), {s.nats, s.text_nats, s.tokens, s.bytes});
  const Tensor table = stream.workspace({static_cast<int64_t>(values.size())}, DType::kF64);
  table.copy_from(values);
  wait(group.all_reduce(table));
  values = read_to_host<double>(table, stream, [&] { return std::vector<double>(values.size(), 1.0); });
  Sums total;
  for (size_t i = 0; i < values.size(); i += 4) {
    total.add({.nats = values[i], .text_nats = values[i + 1], .tokens = values[i + 2], .bytes = values[i + 3]});
  }
  return total;
}

ValidationMetrics Evaluator::run(ModelRuntime& runtime, Communicator& group) const {
  const SampleRange all{.first = 0, .count = num_sequences_};
  const int64_t count = num_microbatches(num_sequences_, group.size(), microbatch_);
  Stream& stream = runtime.stream();
  std::vector<Sums> sequences(static_cast<size_t>(num_sequences_));
  for (const SampleRange& range : deal_sequences(all, group.rank(), group.size(), count)) {
    const Batch batch = read_batch(*stream_, range);
    const std::vector<Microbatch> pieces = make_microbatches({batch}, 0, all, 0, stream);
    TransformerSaved unused;
    const TransformerLosses losses =
        run_lane(runtime.lane(), runtime.model().forward(pieces[0], false, unused, runtime.lane()));
    std::ranges::copy(sums_of(batch, losses.tokens, stream), sequences.begin() + range.first);
  }
  for (Router* router : runtime.model().routers()) router->clear_statistics();

  const Sums total = sum_over_ranks(sequences, group, stream);
  ValidationMetrics metrics;
  metrics.val_tokens = static_cast<int64_t>(total.tokens);
  metrics.val_loss = total.nats / total.tokens;
  metrics.val_perplexity = perplexity(metrics.val_loss);
  if (!byte_lengths_.empty()) {
    metrics.val_bits_per_byte =
        bits_per_byte(total.text_nats / total.tokens, metrics.val_tokens, static_cast<int64_t>(total.bytes));
  }
  return metrics;
}

}  // namespace shoal
