// core/model/experts.cpp: grouped GEMMs around a weighted SwiGLU.
#include "core/model/experts.h"

#include "kernels/grouped_gemm.h"
#include "kernels/swiglu.h"

namespace shoal {

namespace {

Parameter& declare(const ModelContext& context, std::string name, int64_t out, int64_t in, double init_std) {
  return context.store.add({.name = std::move(name),
                            .shape = {context.config.moe().num_experts(), out, in},
                            .use = ParameterUse::kExperts,
                            .group = ParameterGroup::kExpert,
                            .init_std = init_std});
}

}  // namespace

Experts::Experts(const ModelContext& context, const std::string& prefix)
    : ffn_(context.config.moe().ffn()),
      hidden_(context.config.hidden()),
      gate_up_(declare(context, prefix + "gate_up", 2 * ffn_, hidden_, context.init_std())),
      down_(declare(context, prefix + "down", hidden_, ffn_, context.residual_init_std())) {}

Task<Tensor> Experts::forward(Tensor x, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const {
  co_await gate_up_.ready(lane);
  co_await down_.ready(lane);
  Stream& stream = lane.compute();
  const int64_t rows = x.size(0);
  saved.x = x;
  saved.gate_up = stream.activation({rows, 2 * ffn_}, x.dtype());
  grouped_linear_forward(saved.gate_up, x, plan.offsets, gate_up_.packed_experts(), stream);
  Tensor inner = stream.activation({rows, ffn_}, x.dtype());
  swiglu_weighted_forward(inner, saved.gate_up, plan.row_weights, stream);
  Tensor out = stream.activation({rows, hidden_}, x.dtype());
  grouped_linear_forward(out, inner, plan.offsets, down_.packed_experts(), stream);
  co_return out;
}

Task<Experts::Gradients> Experts::backward(Tensor d_out, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const {
  co_await gate_up_.ready(lane);
  co_await down_.ready(lane);
  ExpertsSaved s = std::exchange(saved, {});
  Stream& stream = lane.compute();
  const int64_t rows = d_out.size(0);

  Tensor inner = stream.activation({rows, ffn_}, d_out.dtype());
  swiglu_weighted_forward(inner, s.gate_up, plan.row_weights, stream);
  grouped_linear_backward_weight(down_.grad(), d_out, inner, plan.offsets, down_.next_grad_write(), stream);
  Tensor d_inner = std::move(inner);  // its values are no longer needed
  grouped_linear_backward_input(d_inner, d_out, plan.offsets, down_.packed_experts(), stream);

  Gradients gradients;
  gradients.d_row_weights = stream.activation({rows}, plan.row_weights.dtype());
  swiglu_weighted_backward(s.gate_up, gradients.d_row_weights, d_inner, s.gate_up, plan.row_weights, stream);
  grouped_linear_backward_weight(gate_up_.grad(), s.gate_up, s.x, plan.offsets, gate_up_.next_grad_write(), stream);
  gradients.d_x = std::move(s.x);  // likewise
  grouped_linear_backward_input(gradients.d_x, s.gate_up, plan.offsets, gate_up_.packed_experts(), stream);
  co_return gradients;
}

}  // namespace shoal
