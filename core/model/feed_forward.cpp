// core/model/feed_forward.cpp: what is dropped between forward and backward, and put back.
#include "core/model/feed_forward.h"

namespace shoal {

void set_input(FeedForwardSaved& saved, Tensor x) {
  KeptInput input;
  input.mine = x;
  if (auto* mlp = std::get_if<MlpSaved>(&saved)) mlp->x = std::move(input);
  auto* moe = std::get_if<MoeSaved>(&saved);
  if (moe == nullptr) return;
  moe->router.x = std::move(x);
  if (moe->shared.swiglu.defined()) moe->shared.x = std::move(input);
}

void drop_for_refill(FeedForwardSaved& saved, bool keep_received) {
  auto* moe = std::get_if<MoeSaved>(&saved);
  if (moe == nullptr) {
    saved.emplace<std::monostate>();
    return;
  }
  MoeSaved kept;
  kept.router.experts = std::move(moe->router.experts);
  kept.router.balance_counts = std::move(moe->router.balance_counts);
  kept.router.aux_loss = std::move(moe->router.aux_loss);  // for whoever sums losses
  kept.plan = std::move(moe->plan);
  if (keep_received) kept.experts.x = std::move(moe->experts.x);
  *moe = std::move(kept);
}

}  // namespace shoal
