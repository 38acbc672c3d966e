// core/model/moe.cpp: tokens to experts and back.
#include "core/model/moe.h"

#include "kernels/elementwise.h"
#include "kernels/permute_rows.h"

namespace shoal {

Moe::Moe(const ModelContext& context, const std::string& prefix, int64_t moe_layer)
    : router_(context, prefix, moe_layer), experts_(context, prefix + "experts.") {
  const MoeConfig& moe = context.config.moe();
  if (moe.num_shared_experts() > 0) {
    shared_.emplace(context, prefix + "shared.", moe.num_shared_experts() * moe.ffn());
  }
}

Task<Tensor> Moe::forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  MoeSaved& s = saved.emplace<MoeSaved>();
  Stream& stream = lane.compute();
  const RouterChoice choice = co_await router_.forward(x, batch, s.router, lane);
  s.plan = plan_routes(choice.experts, choice.weights, static_cast<int64_t>(router_.counts().size()), stream);
  for (size_t e = 0; e < router_.counts().size(); ++e) router_.counts()[e] += s.plan.offsets[e + 1] - s.plan.offsets[e];

  Tensor sorted = stream.activation({s.plan.rows_routed, x.size(1)}, x.dtype());
  gather_rows(sorted, x, s.plan.source_row, stream);
  const Tensor expert_out = co_await experts_.forward(std::move(sorted), s.plan, s.experts, lane);
  Tensor shared_out;
  if (shared_) shared_out = co_await shared_->forward(x, s.shared, lane);
  Tensor out = shared_out;
  if (!out.defined()) out = stream.activation(x.shape(), x.dtype());
  sum_rows(out, shared_out, expert_out, s.plan.first, s.plan.sorted_rows, stream);
  co_return out;
}

Task<Tensor> Moe::backward(Tensor d_out, const Microbatch&, FeedForwardSaved& saved, Lane& lane) {
  MoeSaved s = std::move(std::get<MoeSaved>(saved));
  saved.emplace<std::monostate>();
  Stream& stream = lane.compute();
  Tensor d_sorted = stream.activation({s.plan.rows_routed, d_out.size(1)}, d_out.dtype());
  gather_rows(d_sorted, d_out, s.plan.source_row, stream);
  const Experts::Gradients expert = co_await experts_.backward(std::move(d_sorted), s.plan, s.experts, lane);

  Tensor d_weights = stream.activation(s.router.experts.shape(), s.router.scores.dtype());
  scatter_weight_gradients(d_weights, expert.d_row_weights, s.plan, stream);
  Tensor d_x = co_await router_.backward(std::move(d_weights), d_out.dtype(), s.router, lane);
  if (shared_) accumulate(d_x, co_await shared_->backward(d_out, s.shared, lane), stream);
  sum_rows(d_x, d_x, expert.d_x, s.plan.first, s.plan.sorted_rows, stream);
  co_return d_x;
}

}  // namespace shoal
