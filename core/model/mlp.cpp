// core/model/mlp.cpp: two linears around SwiGLU.
#include "core/model/mlp.h"

#include "kernels/swiglu.h"

namespace shoal {

Mlp::Mlp(const ModelContext& context, const std::string& prefix, int64_t ffn, LayerPart part)
    : tensor_(context.tensor()),
      ffn_(tensor_.part({ffn})),
      format_(context.linear_format(part)),
      reader_(format_, tensor_),
      swiglu_(format_, !context.recompute.swiglu()),
      gate_up_(context.store, prefix + "gate_up", tensor_.part({ffn, ffn}), context.config.hidden(), context.init_std(),
               format_),
      down_(context.store, prefix + "down", context.config.hidden(), ffn_, context.residual_init_std(), format_) {}

Task<Tensor> Mlp::forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  return forward(std::move(x), batch.rows(), saved.emplace<MlpSaved>(), lane);
}

Task<void> Mlp::refill(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  return refill(std::move(x), batch.rows(), saved.emplace<MlpSaved>(), lane);
}

Task<Tensor> Mlp::backward(Tensor d_out, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  return backward(std::move(d_out), batch.rows(), std::get<MlpSaved>(saved), lane);
}

Task<Tensor> Mlp::project_up(int64_t total, MlpSaved& saved, Lane& lane) const {
  LinearInput input = co_await reader_.read(saved.x, total, lane);
  saved.x.rows = {};
  co_return co_await gate_up_.forward(std::move(input), lane);
}

Task<void> Mlp::refill(Tensor x, int64_t total, MlpSaved& saved, Lane& lane) const {
  saved.x.mine = std::move(x);
  Tensor gate_up = co_await project_up(total, saved, lane);
  swiglu_.keep(std::move(gate_up), {}, {0, total}, saved.swiglu, lane.compute());
}

Task<Tensor> Mlp::forward(Tensor x, int64_t total, MlpSaved& saved, Lane& lane) const {
  saved.x.mine = std::move(x);
  Tensor gate_up = co_await project_up(total, saved, lane);
  LinearInput inner = swiglu_.forward(gate_up, {}, lane.compute());
  swiglu_.keep(std::move(gate_up), {}, {0, total}, saved.swiglu, lane.compute());
  Tensor partial = co_await down_.forward(std::move(inner), lane);
  co_return co_await tensor_.sum_and_split(std::move(partial), lane);
}

Task<Tensor> Mlp::backward(Tensor d_out, int64_t total, MlpSaved& saved, Lane& lane) const {
  MlpSaved s = std::exchange(saved, {});
  Tensor gate_up = swiglu_.take_gate_up(s.swiglu, d_out.dtype(), lane.compute());
  LinearInput inner = swiglu_.take_inner(s.swiglu, gate_up, {}, {0, total}, lane.compute());
  d_out = co_await tensor_.gather(std::move(d_out), total, lane);
  Tensor d_inner = co_await down_.backward(std::move(d_out), std::move(inner), lane);
  swiglu_backward(gate_up, d_inner, gate_up, lane.compute());  // in place
  d_inner = {};
  LinearInput x = co_await reader_.read(s.x, total, lane);
  s.x = {};
  Tensor d_x = co_await gate_up_.backward(std::move(gate_up), std::move(x), lane);
  co_return co_await tensor_.sum_and_split(std::move(d_x), lane);
}

}  // namespace shoal
