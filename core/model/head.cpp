// core/model/head.cpp: chunk by chunk.
#include "core/model/head.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"

namespace shoal {

namespace {

Parameter& declare(const ModelContext& context) {
  const TensorParallel tensor = context.tensor();
  Sharding sharding;
  sharding.dims = {tensor.part({context.config.vocab()}), context.config.hidden()};
  return context.store.add({.name = "head",
                            .shape = sharding.local_shape(),
                            .sharding = sharding,
                            .group = ParameterGroup::kTensor,
                            .init_std = context.init_std(),
                            .num_uses = 1 + static_cast<int>(context.config.mtp().depth()),
                            .grad_in_forward = true});
}

}  // namespace

Head::Head(const ModelContext& context, Parameter* tied, int first_use)
    : tensor_(context.tensor()),
      weight_(tied != nullptr ? *tied : declare(context)),
      first_use_(tied != nullptr ? first_use : 0) {}

VocabShard Head::shard() const {
  const ShardDim& vocab = weight_.spec().sharding.dims[0];
  return {.first_id = vocab.held[0].begin, .vocab = vocab.global};
}

// losses and, unless undefined, d_logits of one chunk, which may alias logits.
Task<void> Head::losses_of_chunk(Tensor losses, Tensor d_logits, Tensor logits, Tensor targets, double scale,
                                 Lane& lane) const {
  Stream& stream = lane.compute();
  if (tensor_.size() > 1) {
    const int64_t rows = logits.size(0);
    const Tensor all = stream.workspace({tensor_.size(), rows, 3}, DType::kF64);
    cross_entropy_statistics(all[tensor_.rank()], logits, targets, shard(), stream);
    // In place: how many chunks a microbatch has depends on its rows, and lanes must change at the same points on all
    // ranks.
    co_await lane.wire_in_place(tensor_.group().all_gather(all, all[tensor_.rank()]), WireKind::kTensor);
    cross_entropy_from_statistics(losses, d_logits, logits, targets, all, shard(), scale, stream);
  } else if (d_logits.defined()) {
    cross_entropy_forward_backward(losses, d_logits, logits, targets, scale, stream);
  } else {
    cross_entropy_forward(losses, logits, targets, stream);
  }
}

Task<Tensor> Head::forward(Tensor normed, HeadTargets targets, Tensor* d_normed, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  const bool with_gradients = d_normed != nullptr;
  const int64_t rows = targets.ids.numel();
  normed = co_await tensor_.gather(std::move(normed), rows, lane);
  const int64_t columns = weight_.spec().shape[0];
  const DType wide = arithmetic_dtype(normed.dtype());
  Tensor losses = stream.activation({rows}, wide);
  Tensor d_rows;
  if (with_gradients) d_rows = stream.activation(normed.shape(), normed.dtype());
  // A microbatch's gradient is formed first and added once, so that microbatches add up as ranks do: chunks that would
  // be added one by one to what earlier microbatches left are summed apart.
  const int use = first_use_ + targets.use;
  const Write write = with_gradients ? weight_.next_grad_write(use) : Write::kOverwrites;
  const bool apart = write == Write::kAccumulates && rows > kChunkRows;
  Tensor grad;
  if (with_gradients) grad = apart ? stream.workspace(weight_.spec().shape, wide) : weight_.grad(use);
  // A rank without rows still marks its gradient as written (by zeros), as every rank must.
  for (int64_t begin = 0; begin == 0 || begin < rows; begin += kChunkRows) {
    const int64_t count = std::min(kChunkRows, rows - begin);
    const Tensor chunk = normed.rows(begin, count);
    Tensor logits = stream.workspace({count, columns}, wide);
    linear_forward(logits, chunk, weight_.packed(), stream);
    Tensor d_logits;
    if (with_gradients) d_logits = normed.dtype() == wide ? logits : stream.workspace({count, columns}, normed.dtype());
    co_await losses_of_chunk(losses.rows(begin, count), d_logits, logits, targets.ids.rows(begin, count), targets.scale,
                             lane);
    if (!with_gradients) continue;
    const Write first = apart ? Write::kOverwrites : write;
    linear_backward_weight(grad, d_logits, chunk, begin == 0 ? first : Write::kAccumulates, stream);
    linear_backward_input(d_rows.rows(begin, count), d_logits, weight_.packed(), Write::kOverwrites, stream);
  }
  if (apart) accumulate(weight_.grad(use), grad, stream);
  if (with_gradients) *d_normed = co_await tensor_.sum_and_split(std::move(d_rows), lane);
  co_return losses;
}

Task<Tensor> Head::logits(Tensor normed, Lane& lane) const {
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  const int64_t rows = normed.size(0);
  Tensor mine = stream.activation({rows, weight_.spec().shape[0]}, arithmetic_dtype(normed.dtype()));
  linear_forward(mine, normed, weight_.packed(), stream);
  if (tensor_.size() == 1) co_return mine;
  const int64_t vocab = shard().vocab;
  std::vector<int64_t> counts;
  for (int r = 0; r < tensor_.size(); ++r) counts.push_back(rows * part_of(vocab, r, tensor_.size()).count);
  const Tensor all = stream.workspace({rows * vocab}, mine.dtype());
  const Tensor flat = mine.reshape({mine.numel()});
  co_await lane.wire(tensor_.group().all_gather_rows(all, counts, flat), WireKind::kTensor);
  Tensor logits = stream.activation({rows, vocab}, mine.dtype());
  int64_t begin = 0;
  for (int r = 0; r < tensor_.size(); ++r) {
    const IndexRange ids = part_of(vocab, r, tensor_.size());
    cast(logits.columns(ids.begin, ids.count), all.rows(begin, rows * ids.count).reshape({rows, ids.count}), stream);
    begin += rows * ids.count;
  }
  co_return logits;
}

}  // namespace shoal
