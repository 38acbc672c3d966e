// core/model/mlp.cpp: two linears around SwiGLU.
#include "core/model/mlp.h"

#include "kernels/swiglu.h"

namespace shoal {

Mlp::Mlp(const ModelContext& context, const std::string& prefix, int64_t ffn)
    : ffn_(ffn),
      gate_up_(context.store, prefix + "gate_up", 2 * ffn, context.config.hidden(), context.init_std()),
      down_(context.store, prefix + "down", context.config.hidden(), ffn, context.residual_init_std()) {}

Task<Tensor> Mlp::forward(Tensor x, const Microbatch&, FeedForwardSaved& saved, Lane& lane) {
  return forward(std::move(x), saved.emplace<MlpSaved>(), lane);
}

Task<Tensor> Mlp::backward(Tensor d_out, const Microbatch&, FeedForwardSaved& saved, Lane& lane) {
  return backward(std::move(d_out), std::get<MlpSaved>(saved), lane);
}

Task<Tensor> Mlp::forward(Tensor x, MlpSaved& saved, Lane& lane) const {
  saved.x = x;
  saved.gate_up = co_await gate_up_.forward(std::move(x), lane);
  Tensor inner = lane.compute().activation({saved.gate_up.size(0), ffn_}, saved.gate_up.dtype());
  swiglu_forward(inner, saved.gate_up, lane.compute());
  co_return co_await down_.forward(std::move(inner), lane);
}

Task<Tensor> Mlp::backward(Tensor d_out, MlpSaved& saved, Lane& lane) const {
  MlpSaved s = std::exchange(saved, {});
  Tensor inner = lane.compute().activation({s.gate_up.size(0), ffn_}, s.gate_up.dtype());
  swiglu_forward(inner, s.gate_up, lane.compute());
  const Tensor d_inner = co_await down_.backward(std::move(d_out), std::move(inner), lane);
  swiglu_backward(s.gate_up, d_inner, s.gate_up, lane.compute());  // in place
  co_return co_await gate_up_.backward(std::move(s.gate_up), std::move(s.x), lane);
}

}  // namespace shoal
