// core/model/block.cpp: two residual branches.
#include "core/model/block.h"

#include <algorithm>

#include "core/model/attention_gqa.h"
#include "core/model/attention_mla.h"
#include "kernels/elementwise.h"

namespace shoal {

namespace {

std::unique_ptr<Attention> make_attention(const ModelContext& context, const std::string& prefix) {
  if (context.config.attention().kind() == AttentionConfig::MLA) return std::make_unique<AttentionMla>(context, prefix);
  return std::make_unique<AttentionGqa>(context, prefix);
}

bool is_dense(const ModelConfig& config, int64_t layer) {
  return !config.has_moe() || std::min(layer, config.layers() - 1) < config.moe().first_dense_layers();
}

}  // namespace

Block::Block(const ModelContext& context, int64_t layer)
    : recompute_(context.recompute),
      attention_norm_(context.store, layer_prefix(layer) + "attention_norm", context.config.hidden(),
                      context.config.norm_eps()),
      attention_(make_attention(context, layer_prefix(layer) + "attention.")),
      ffn_norm_(context.store, layer_prefix(layer) + "ffn_norm", context.config.hidden(), context.config.norm_eps()) {
  if (is_dense(context.config, layer)) {
    ffn_ = std::make_unique<Mlp>(context, layer_prefix(layer) + "ffn.", context.config.ffn(), LayerPart::kDenseFfn);
  } else {
    auto moe = std::make_unique<Moe>(context, layer_prefix(layer), layer - context.config.moe().first_dense_layers());
    moe_ = moe.get();
    ffn_ = std::move(moe);
  }
}

Task<void> Block::attend(const Microbatch& batch, BlockSaved& saved, Lane& lane) {
  Tensor normed = co_await attention_norm_.forward(saved.x, saved.attention_norm, lane);
  saved.h = co_await attention_->forward(std::move(normed), batch, saved.attention, lane);
  add(saved.h, saved.x, saved.h, lane.compute());
}

Task<Tensor> Block::forward(Tensor x, const Microbatch& batch, BlockSaved& saved, Lane& lane) {
  saved.x = std::move(x);
  co_await attend(batch, saved, lane);
  Tensor normed = co_await ffn_norm_.forward(saved.h, saved.ffn_norm, lane);
  Tensor branch = co_await ffn_->forward(std::move(normed), batch, saved.ffn, lane);
  add(branch, saved.h, branch, lane.compute());
  drop_recomputed(saved);
  co_return branch;
}

void Block::drop_recomputed(BlockSaved& saved) const {
  if (recompute_.block()) {
    saved.attention.emplace<std::monostate>();
    saved.h = {};
    drop_for_refill(saved.ffn, recompute_.keep_received());
  } else if (recompute_.norms()) {
    set_input(saved.attention, {});
    set_input(saved.ffn, {});
  }
}

namespace {

// To be added to in place. What was deferred reads it as it was, later: then it is a copy.
Tensor own_gradient(Tensor d_out, Lane& lane) {
  if (!lane.deferring()) return d_out;
  Tensor copy = lane.compute().activation(d_out.shape(), d_out.dtype());
  cast(copy, d_out, lane.compute());
  return copy;
}

}  // namespace

Task<Tensor> Block::backward(Tensor d_out, const Microbatch& batch, BlockSaved& saved, Lane& lane) {
  if (recompute_.block()) {
    co_await attend(batch, saved, lane);
    Tensor normed = co_await ffn_norm_.forward(saved.h, saved.ffn_norm, lane);
    co_await ffn_->refill(std::move(normed), batch, saved.ffn, lane);
  } else if (recompute_.norms()) {
    Tensor normed = co_await ffn_norm_.forward(saved.h, saved.ffn_norm, lane);
    set_input(saved.ffn, std::move(normed));
  }
  // d_out is the residual's gradient too: each branch adds to it, in place.
  Tensor d_branch = co_await ffn_->backward(d_out, batch, saved.ffn, lane);
  d_out = own_gradient(std::move(d_out), lane);
  co_await ffn_norm_.backward(d_out, Write::kAccumulates, d_branch, saved.h, saved.ffn_norm, lane);
  saved.h = {};
  if (recompute_.norms() && !recompute_.block()) {
    Tensor normed = co_await attention_norm_.forward(saved.x, saved.attention_norm, lane);
    set_input(saved.attention, std::move(normed));
  }
  d_branch = co_await attention_->backward(d_out, batch, saved.attention, lane);
  d_out = own_gradient(std::move(d_out), lane);
  co_await attention_norm_.backward(d_out, Write::kAccumulates, d_branch, saved.x, saved.attention_norm, lane);
  saved = {};
  co_return d_out;
}

Tensor aux_loss_of(const BlockSaved& saved) {
  const auto* moe = std::get_if<MoeSaved>(&saved.ffn);
  return moe != nullptr ? moe->router.aux_loss : Tensor();
}

}  // namespace shoal
