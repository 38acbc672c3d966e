// core/model/block.cpp: two residual branches.
#include "core/model/block.h"

#include "core/model/attention_gqa.h"
#include "core/model/attention_mla.h"
#include "kernels/elementwise.h"

namespace shoal {

namespace {

std::unique_ptr<Attention> make_attention(const ModelContext& context, const std::string& prefix) {
  if (context.config.attention().kind() == AttentionConfig::MLA) return std::make_unique<AttentionMla>(context, prefix);
  return std::make_unique<AttentionGqa>(context, prefix);
}

}  // namespace

Block::Block(const ModelContext& context, int64_t layer)
    : attention_norm_(context.store, layer_prefix(layer) + "attention_norm", context.config.hidden(),
                      context.config.norm_eps()),
      attention_(make_attention(context, layer_prefix(layer) + "attention.")),
      ffn_norm_(context.store, layer_prefix(layer) + "ffn_norm", context.config.hidden(), context.config.norm_eps()) {
  const bool dense = !context.config.has_moe() || layer < context.config.moe().first_dense_layers();
  if (dense) {
    ffn_ = std::make_unique<Mlp>(context, layer_prefix(layer) + "ffn.", context.config.ffn());
  } else {
    auto moe = std::make_unique<Moe>(context, layer_prefix(layer), layer - context.config.moe().first_dense_layers());
    moe_ = moe.get();
    ffn_ = std::move(moe);
  }
}

Task<Tensor> Block::forward(Tensor x, const Microbatch& batch, BlockSaved& saved, Lane& lane) {
  Stream& stream = lane.compute();
  saved.x = x;
  Tensor normed = co_await attention_norm_.forward(x, saved.attention_norm, lane);
  Tensor branch = co_await attention_->forward(std::move(normed), batch, saved.attention, lane);
  add(branch, x, branch, stream);
  saved.h = branch;
  normed = co_await ffn_norm_.forward(saved.h, saved.ffn_norm, lane);
  branch = co_await ffn_->forward(std::move(normed), batch, saved.ffn, lane);
  add(branch, saved.h, branch, stream);
  co_return branch;
}

Task<Tensor> Block::backward(Tensor d_out, const Microbatch& batch, BlockSaved& saved, Lane& lane) {
  // d_out is the residual's gradient too: each branch adds to it, in place.
  Tensor d_branch = co_await ffn_->backward(d_out, batch, saved.ffn, lane);
  co_await ffn_norm_.backward(d_out, Write::kAccumulates, d_branch, saved.h, saved.ffn_norm, lane);
  saved.h = {};
  d_branch = co_await attention_->backward(d_out, batch, saved.attention, lane);
  co_await attention_norm_.backward(d_out, Write::kAccumulates, d_branch, saved.x, saved.attention_norm, lane);
  saved = {};
  co_return d_out;
}

}  // namespace shoal
