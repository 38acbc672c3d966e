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

void Evaluator::add(Sums& sums, const std::vector<int32_t>& targets, const Tensor& losses,
                    ModelRuntime& runtime) const {
  Stream& stream = runtime.stream();
  const Tensor wide = stream.workspace(losses.shape(), DType::kF64);
  cast(wide, losses, stream);
  const std::vector<double> nats =
      read_to_host<double>(wide, stream, [&] { return std::vector<double>(targets.size(), 0.0); });
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] < 0) continue;
    ++sums.tokens;
    sums.nats += nats[i];
    if (byte_lengths_.empty()) continue;
    // Padded vocabulary rows stand for no token of the tokenizer and never occur as targets.
    const int64_t bytes = byte_lengths_[static_cast<size_t>(targets[i])];
    sums.bytes += bytes;
    if (bytes > 0) sums.text_nats += nats[i];
  }
}

ValidationMetrics Evaluator::run(ModelRuntime& runtime, Communicator& group) const {
  const SampleRange mine = share_of(num_sequences_, group.rank(), group.size());
  const int64_t count = num_microbatches(num_sequences_, group.size(), microbatch_);
  Stream& stream = runtime.stream();
  Sums sums;
  for (int64_t i = 0; i < count; ++i) {
    SampleRange range = share_of(mine.count, i, count);
    range.first += mine.first;
    const Batch batch = read_batch(*stream_, range);
    const std::vector<Microbatch> pieces = make_microbatches(batch, 1, 0, 0, num_sequences_, stream);
    TransformerSaved unused;
    const Tensor losses = run_lane(runtime.lane(), runtime.model().forward(pieces[0], false, unused, runtime.lane()));
    add(sums, batch.targets, losses, runtime);
  }
  for (Router* router : runtime.model().routers()) router->clear_statistics(stream);

  const Tensor totals = stream.workspace({4}, DType::kF64);
  totals.copy_from<double>(
      {sums.nats, sums.text_nats, static_cast<double>(sums.tokens), static_cast<double>(sums.bytes)});
  wait(group.all_reduce(totals));
  const auto all = read_to_host<double>(totals, stream, [] { return std::vector<double>{0, 0, 1, 1}; });
  ValidationMetrics metrics;
  metrics.val_tokens = static_cast<int64_t>(all[2]);
  metrics.val_loss = all[0] / all[2];
  metrics.val_perplexity = perplexity(metrics.val_loss);
  if (!byte_lengths_.empty()) {
    metrics.val_bits_per_byte = bits_per_byte(all[1] / all[2], metrics.val_tokens, static_cast<int64_t>(all[3]));
  }
  return metrics;
}

}  // namespace shoal
