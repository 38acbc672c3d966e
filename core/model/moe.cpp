// core/model/moe.cpp: tokens to experts and back.
#include "core/model/moe.h"

#include "kernels/elementwise.h"

namespace shoal {

Moe::Moe(const ModelContext& context, const std::string& prefix, int64_t moe_layer)
    : format_(context.linear_format(LayerPart::kExperts)),
      router_(context, prefix, moe_layer),
      exchange_(context.mesh, context.config.moe().num_experts(), context.dispatch,
                wire_format(context.precision.combine())),
      experts_(context, prefix + "experts.") {
  const MoeConfig& moe = context.config.moe();
  if (moe.num_shared_experts() > 0) {
    shared_.emplace(context, prefix + "shared.", moe.num_shared_experts() * moe.ffn(), LayerPart::kSharedExpert);
  }
}

Task<RoutedRows> Moe::send(Tensor x, QuantizeOptions options, RoutePlan& plan, Lane& lane) const {
  RoutedRows routed;
  if (format_.fp8) {
    QuantizedRows codes = empty_quantized_rows(x.size(0), x.size(1), lane.compute());
    quantize_rows(codes, x, options, lane.compute());
    x = {};
    routed.codes = co_await exchange_.to_experts(std::move(codes), plan, lane);
  } else {
    routed.rows = co_await exchange_.to_experts(std::move(x), plan, lane);
  }
  co_return routed;
}

namespace {

Task<Tensor> nothing_else() { co_return Tensor(); }

}  // namespace

Task<Tensor> Moe::forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  MoeSaved& s = saved.emplace<MoeSaved>();
  const RouterChoice choice = co_await router_.forward(x, batch, s.router, lane);
  std::function<std::vector<int32_t>()> simulated = router_.balanced_for(batch);
  s.plan = co_await exchange_.begin_plan(choice.experts, choice.weights, std::move(simulated), lane);
  router_.count(s.plan.expert_counts);
  QuantizeOptions options = format_.activations(TileScale::kPowerOfTwo);
  RoutedRows sorted = co_await send(x, std::move(options), s.plan, lane);
  Tensor expert_out = co_await experts_.forward(std::move(sorted), s.plan, s.experts, lane);
  // The shared expert computes while the routed ones' rows travel home.
  Task<Tensor> shared_out = nothing_else();
  if (shared_) shared_out = shared_->forward(std::move(x), batch.rows(), s.shared, lane);
  co_return co_await exchange_.to_tokens(std::move(expert_out), std::move(shared_out), s.plan, lane);
}

Task<void> Moe::refill(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  MoeSaved& s = std::get<MoeSaved>(saved);
  co_await router_.forward(x, batch, s.router, lane);
  QuantizeOptions options = format_.activations(TileScale::kPowerOfTwo);
  options.counts = {};  // counted the first time
  if (!s.experts.x.defined()) s.experts.x = co_await send(x, std::move(options), s.plan, lane);
  co_await experts_.refill(s.plan, s.experts, lane);
  if (shared_) co_await shared_->refill(std::move(x), batch.rows(), s.shared, lane);
}

Task<Tensor> Moe::backward(Tensor d_out, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) {
  MoeSaved s = std::move(std::get<MoeSaved>(saved));
  saved.emplace<std::monostate>();
  QuantizeOptions options = format_.gradients(TileScale::kPowerOfTwo);
  RoutedRows d_sorted = co_await send(d_out, std::move(options), s.plan, lane);
  Experts::Gradients expert = co_await experts_.backward(std::move(d_sorted), s.plan, s.experts, lane);
  TokenExchange::ArrivingGradients d_weights =
      exchange_.begin_weight_gradients(std::move(expert.d_row_weights), s.plan, lane.compute());
  Task<Tensor> d_x = backward_at_home(std::move(d_out), std::move(d_weights), batch, s, lane);
  co_return co_await exchange_.to_tokens(std::move(expert.d_x), std::move(d_x), s.plan, lane);
}

// What reaches x by the router and the shared expert, while the routed experts' share travels home.
Task<Tensor> Moe::backward_at_home(Tensor d_out, TokenExchange::ArrivingGradients arriving, const Microbatch& batch,
                                   MoeSaved& s, Lane& lane) {
  Tensor d_weights = co_await exchange_.weight_gradients(std::move(arriving), s.plan, lane);
  Tensor d_x = co_await router_.backward(std::move(d_weights), d_out.dtype(), s.router, lane);
  if (shared_) {
    const Tensor d_x_shared = co_await shared_->backward(std::move(d_out), batch.rows(), s.shared, lane);
    accumulate(d_x, d_x_shared, lane.compute());
  }
  co_return d_x;
}

}  // namespace shoal
