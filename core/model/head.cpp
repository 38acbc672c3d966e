// core/model/head.cpp: chunk by chunk.
#include "core/model/head.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"

namespace shoal {

Head::Head(const ModelContext& context, Parameter* tied)
    : norm_(context.store, "final_norm", context.config.hidden(), context.config.norm_eps()),
      weight_(tied != nullptr ? *tied
                              : context.store.add({.name = "head",
                                                   .shape = {context.config.vocab(), context.config.hidden()},
                                                   .init_std = context.init_std(),
                                                   .grad_in_forward = true})),
      use_(tied != nullptr ? 1 : 0) {}

Task<Tensor> Head::forward(Tensor x, const Microbatch& batch, bool with_gradients, HeadSaved& saved, Lane& lane) const {
  saved.x = x;
  const Tensor normed = co_await norm_.forward(x, saved.norm, lane);
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  const int64_t rows = x.size(0);
  const int64_t vocab = weight_.spec().shape[0];
  const DType wide = arithmetic_dtype(x.dtype());
  Tensor losses = stream.activation({rows}, wide);
  if (with_gradients) saved.d_normed = stream.activation(normed.shape(), normed.dtype());
  // A microbatch's gradient is formed first and added once, so that microbatches add up as ranks do: chunks that would
  // be added one by one to what earlier microbatches left are summed apart.
  const Write write = with_gradients ? weight_.next_grad_write(use_) : Write::kOverwrites;
  const bool apart = write == Write::kAccumulates && rows > kChunkRows;
  Tensor grad;
  if (with_gradients) grad = apart ? stream.workspace(weight_.spec().shape, wide) : weight_.grad(use_);
  // A rank without rows still marks its gradient as written (by zeros), as every rank must.
  for (int64_t begin = 0; begin == 0 || begin < rows; begin += kChunkRows) {
    const int64_t count = std::min(kChunkRows, rows - begin);
    const Tensor chunk = normed.rows(begin, count);
    Tensor logits = stream.workspace({count, vocab}, wide);
    linear_forward(logits, chunk, weight_.packed(), stream);
    if (!with_gradients) {
      cross_entropy_forward(losses.rows(begin, count), logits, batch.targets.rows(begin, count), stream);
      continue;
    }
    Tensor d_logits = logits;
    if (x.dtype() != wide) d_logits = stream.workspace({count, vocab}, x.dtype());
    cross_entropy_forward_backward(losses.rows(begin, count), d_logits, logits, batch.targets.rows(begin, count),
                                   batch.token_loss_scale, stream);
    const Write first = apart ? Write::kOverwrites : write;
    linear_backward_weight(grad, d_logits, chunk, begin == 0 ? first : Write::kAccumulates, stream);
    linear_backward_input(saved.d_normed.rows(begin, count), d_logits, weight_.packed(), Write::kOverwrites, stream);
  }
  if (apart) accumulate(weight_.grad(use_), grad, stream);
  co_return losses;
}

Task<Tensor> Head::backward(HeadSaved& saved, Lane& lane) const {
  HeadSaved s = std::exchange(saved, {});
  co_await norm_.backward(s.d_normed, Write::kOverwrites, s.d_normed, s.x, s.norm, lane);
  co_return s.d_normed;
}

Task<Tensor> Head::logits(Tensor x, Lane& lane) const {
  NormSaved unused;
  const Tensor normed = co_await norm_.forward(x, unused, lane);
  co_await weight_.ready(lane);
  Stream& stream = lane.compute();
  Tensor logits = stream.activation({x.size(0), weight_.spec().shape[0]}, arithmetic_dtype(x.dtype()));
  linear_forward(logits, normed, weight_.packed(), stream);
  co_return logits;
}

}  // namespace shoal
