// core/model/mlp.cpp: two linears around SwiGLU.
#include "core/model/mlp.h"

#include "kernels/swiglu.h"

namespace shoal {

Mlp::Mlp(const ModelContext& context, const std::string& prefix, int64_t ffn)
    : tensor_(context.tensor()),
      keep_inner_(!context.recompute.swiglu()),
      ffn_(tensor_.part({ffn})),
      gate_up_(context.store, prefix + "gate_up", tensor_.part({ffn, ffn}), context.config.hidden(),
               context.init_std()),
      down_(context.store, prefix + "down", context.config.hidden(), ffn_, context.residual_init_std()) {}

Task<Tensor> Mlp::forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  return forward(std::move(x), batch.rows(), saved.emplace<MlpSaved>(), lane);
}

Task<void> Mlp::refill(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  return refill(std::move(x), batch.rows(), saved.emplace<MlpSaved>(), lane);
}

Task<Tensor> Mlp::backward(Tensor d_out, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  return backward(std::move(d_out), batch.rows(), std::get<MlpSaved>(saved), lane);
}

Task<void> Mlp::refill(Tensor x, int64_t total, MlpSaved& saved, Lane& lane) const {
  saved.x = x;
  x = co_await tensor_.gather(std::move(x), total, lane);
  saved.gate_up = co_await gate_up_.forward(std::move(x), lane);
}

Task<Tensor> Mlp::forward(Tensor x, int64_t total, MlpSaved& saved, Lane& lane) const {
  co_await refill(std::move(x), total, saved, lane);
  Tensor inner = lane.compute().activation({total, ffn_.local()}, saved.gate_up.dtype());
  swiglu_forward(inner, saved.gate_up, lane.compute());
  if (keep_inner_) saved.inner = inner;
  Tensor partial = co_await down_.forward(std::move(inner), lane);
  co_return co_await tensor_.sum_and_split(std::move(partial), lane);
}

Task<Tensor> Mlp::backward(Tensor d_out, int64_t total, MlpSaved& saved, Lane& lane) const {
  MlpSaved s = std::exchange(saved, {});
  if (!s.inner.defined()) {
    s.inner = lane.compute().activation({total, ffn_.local()}, s.gate_up.dtype());
    swiglu_forward(s.inner, s.gate_up, lane.compute());
  }
  d_out = co_await tensor_.gather(std::move(d_out), total, lane);
  const Tensor d_inner = co_await down_.backward(std::move(d_out), std::move(s.inner), lane);
  swiglu_backward(s.gate_up, d_inner, s.gate_up, lane.compute());  // in place
  Tensor x = co_await tensor_.gather(std::move(s.x), total, lane);
  Tensor d_x = co_await gate_up_.backward(std::move(s.gate_up), std::move(x), lane);
  co_return co_await tensor_.sum_and_split(std::move(d_x), lane);
}

}  // namespace shoal
