// core/model/moe.h: the mixture-of-experts layer: router, routed experts, shared expert.
//
//   y = Σ over the token's experts of weight_e * expert_e(x)  +  shared(x)
//
// Each rank routes its own rows; experts are spread over the ranks (parallel/token_exchange.h).
#pragma once

#include <optional>

#include "core/model/experts.h"
#include "core/model/mlp.h"
#include "core/model/router.h"
#include "parallel/token_exchange.h"

namespace shoal {

class Moe final : public FeedForward {
 public:
  Moe(const ModelContext& context, const std::string& prefix, int64_t moe_layer);

  Task<Tensor> forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) override;
  Task<void> refill(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) override;
  Task<Tensor> backward(Tensor d_out, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) override;

  Router& router() { return router_; }

 private:
  // Rows to the experts: FP8 quantised once, at home.
  Task<RoutedRows> send(Tensor x, QuantizeOptions options, RoutePlan& plan, Lane& lane) const;
  Task<Tensor> backward_at_home(Tensor d_out, TokenExchange::ArrivingGradients arriving, const Microbatch& batch,
                                MoeSaved& s, Lane& lane);

  LinearFormat format_;  // of the experts
  Router router_;
  TokenExchange exchange_;
  Experts experts_;
  std::optional<Mlp> shared_;
};

}  // namespace shoal
