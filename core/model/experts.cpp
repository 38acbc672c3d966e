// core/model/experts.cpp: grouped GEMMs around a weighted SwiGLU.
#include "core/model/experts.h"

#include "kernels/grouped_gemm.h"
#include "kernels/swiglu.h"

namespace shoal {

namespace {

Parameter& declare(const ModelContext& context, std::string name, ShardDim out, ShardDim in, double init_std) {
  const Communicator& group = context.mesh.expert();
  Sharding sharding;
  sharding.dims = {ShardDim::part({context.config.moe().num_experts()}, group.rank(), group.size()), std::move(out),
                   std::move(in)};
  return context.store.add({.name = std::move(name),
                            .shape = sharding.local_shape(),
                            .sharding = sharding,
                            .use = ParameterUse::kExperts,
                            .group = ParameterGroup::kExpert,
                            .init_std = init_std});
}

ShardDim part_of_ffn(const ModelContext& context, const std::vector<int64_t>& sections) {
  const Communicator& group = context.mesh.expert_tensor();
  return ShardDim::part(sections, group.rank(), group.size());
}

}  // namespace

Experts::Experts(const ModelContext& context, const std::string& prefix)
    : keep_inner_(!context.recompute.swiglu()),
      ffn_(part_of_ffn(context, {context.config.moe().ffn()})),
      hidden_(context.config.hidden()),
      gate_up_(declare(context, prefix + "gate_up",
                       part_of_ffn(context, {context.config.moe().ffn(), context.config.moe().ffn()}), hidden_,
                       context.init_std())),
      down_(declare(context, prefix + "down", hidden_, ffn_, context.residual_init_std())) {}

Task<void> Experts::refill(const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const {
  co_await gate_up_.ready(lane);
  Stream& stream = lane.compute();
  saved.gate_up = stream.activation({plan.rows_routed, 2 * ffn_.local()}, saved.x.dtype());
  grouped_linear_forward(saved.gate_up, saved.x, plan.offsets, gate_up_.packed_experts(), stream);
}

Tensor Experts::swiglu(const RoutePlan& plan, const ExpertsSaved& saved, Stream& stream) const {
  Tensor inner = stream.activation({plan.rows_routed, ffn_.local()}, saved.gate_up.dtype());
  swiglu_weighted_forward(inner, saved.gate_up, plan.row_weights, stream);
  return inner;
}

Task<Tensor> Experts::forward(Tensor x, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const {
  saved.x = std::move(x);
  co_await refill(plan, saved, lane);
  co_await down_.ready(lane);
  Stream& stream = lane.compute();
  const Tensor inner = swiglu(plan, saved, stream);
  if (keep_inner_) saved.inner = inner;
  Tensor out = stream.activation({plan.rows_routed, hidden_}, inner.dtype());
  grouped_linear_forward(out, inner, plan.offsets, down_.packed_experts(), stream);
  co_return out;
}

Task<Experts::Gradients> Experts::backward(Tensor d_out, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const {
  co_await gate_up_.ready(lane);
  co_await down_.ready(lane);
  ExpertsSaved s = std::exchange(saved, {});
  Stream& stream = lane.compute();
  const int64_t rows = d_out.size(0);

  Tensor inner = s.inner.defined() ? std::move(s.inner) : swiglu(plan, s, stream);
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
