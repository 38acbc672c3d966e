// core/model/transformer.cpp: rows in, losses out, gradients back.
#include "core/model/transformer.h"

#include "kernels/elementwise.h"
#include "kernels/permute_rows.h"

namespace shoal {

namespace {

std::vector<std::unique_ptr<Block>> make_blocks(const ModelContext& context, std::vector<size_t>& first_parameter) {
  const TransformerPart& part = context.part;
  std::vector<std::unique_ptr<Block>> blocks;
  for (int64_t i = 0; i < part.num_layers; ++i) {
    first_parameter.push_back(context.store.parameters().size());
    blocks.push_back(std::make_unique<Block>(context, part.first_layer + i));
  }
  first_parameter.push_back(context.store.parameters().size());
  return blocks;
}

}  // namespace

Transformer::Transformer(const ModelContext& context)
    : part_(context.part), compute_(context.compute), hidden_(context.config.hidden()), tensor_(context.tensor()) {
  const ModelConfig& config = context.config;
  SHOAL_CHECK(part_ == TransformerPart::whole(config) || context.allocator.device() == DeviceKind::kSimulated,
              "layers {} to {} alone: pipeline stages run on paper only", part_.first_layer,
              part_.first_layer + part_.num_layers);
  if (part_.embedding || (part_.head && (config.tie_embeddings() || config.mtp().depth() > 0))) {
    embedding_.emplace(context);
  }
  blocks_ = make_blocks(context, first_parameter_);
  if (!part_.head) return;
  final_norm_.emplace(context.store, "final_norm", config.hidden(), config.norm_eps());
  const bool tied = config.tie_embeddings();
  head_.emplace(context, tied ? &embedding_->parameter() : nullptr, tied ? embedding_->num_lookups() : 0);
  for (int64_t depth = 0; depth < context.config.mtp().depth(); ++depth) {
    mtp_.push_back(std::make_unique<Mtp>(context, depth));
  }
}

Tensor Transformer::from_other_stage(const Microbatch& batch, Lane& lane) const {
  return lane.compute().activation({tensor_.rows(batch.rows()).count, hidden_}, compute_);
}

Task<Tensor> Transformer::run_blocks(const Microbatch& batch, bool keep, TransformerSaved& saved, Lane& lane) {
  Tensor x;
  if (part_.embedding) {
    x = co_await embedding_->forward(batch.tokens, lane);
  } else {
    x = from_other_stage(batch, lane);
  }
  saved.blocks.resize(blocks_.size());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    lane.set_place(-1, static_cast<int>(i));
    x = co_await blocks_[i]->forward(std::move(x), batch, saved.blocks[i], lane);
    if (const Tensor aux = aux_loss_of(saved.blocks[i]); aux.defined()) saved.aux_losses.push_back(aux);
    if (!keep) saved.blocks[i] = {};
  }
  lane.set_place(-1, -1);
  co_return x;
}

Task<TransformerLosses> Transformer::forward(const Microbatch& batch, bool with_gradients, TransformerSaved& saved,
                                             Lane& lane) {
  saved.x = co_await run_blocks(batch, with_gradients, saved, lane);
  TransformerLosses losses;
  if (!part_.head) {
    saved.x = {};  // sent
    co_return losses;
  }
  Tensor normed = co_await final_norm_->forward(saved.x, saved.final_norm, lane);
  HeadTargets targets{.ids = batch.targets, .scale = batch.token_loss_scale, .use = 0};
  losses.tokens = co_await head_->forward(normed, std::move(targets), with_gradients ? &saved.d_normed : nullptr, lane);
  if (with_gradients && !batch.mtp.empty()) co_await run_mtp(batch, std::move(normed), saved, losses, lane);
  co_return losses;
}

Task<void> Transformer::run_mtp(const Microbatch& batch, Tensor normed, TransformerSaved& saved,
                                TransformerLosses& losses, Lane& lane) {
  SHOAL_CHECK_EQ(batch.mtp.size(), mtp_.size());
  saved.mtp.resize(mtp_.size());
  for (size_t k = 0; k < mtp_.size(); ++k) {
    const MtpTargets& further = batch.mtp[k];
    MtpSaved& s = saved.mtp[k];
    Tensor embedded = co_await embedding_->forward(further.tokens, lane);
    normed = co_await mtp_[k]->forward(std::move(embedded), std::move(normed), batch, s, lane);
    if (const Tensor aux = aux_loss_of(s.block); aux.defined()) saved.aux_losses.push_back(aux);
    HeadTargets targets{.ids = further.targets, .scale = further.loss_scale, .use = static_cast<int>(k) + 1};
    Tensor token_losses = co_await head_->forward(normed, std::move(targets), &s.d_normed, lane);
    losses.mtp.push_back(std::move(token_losses));
  }
}

Task<Tensor> Transformer::backward_mtp(const Microbatch& batch, TransformerSaved& saved, Lane& lane) {
  Tensor from_next;
  for (size_t k = saved.mtp.size(); k-- > 0;) {
    Tensor d_normed = std::move(saved.mtp[k].d_normed);
    if (from_next.defined()) accumulate(d_normed, from_next, lane.compute());
    Mtp::Gradients gradients = co_await mtp_[k]->backward(std::move(d_normed), batch, saved.mtp[k], lane);
    co_await embedding_->backward(std::move(gradients.d_embedded), batch.mtp[k].tokens, static_cast<int>(k) + 1, lane);
    from_next = std::move(gradients.d_previous);
  }
  co_return from_next;
}

Task<void> Transformer::backward(const Microbatch& batch, TransformerSaved& saved, Lane& lane, LayerDone done) {
  Tensor d_x;
  if (part_.head) {
    const Tensor from_mtp = co_await backward_mtp(batch, saved, lane);
    d_x = std::move(saved.d_normed);
    if (from_mtp.defined()) accumulate(d_x, from_mtp, lane.compute());
    co_await final_norm_->backward(d_x, Write::kOverwrites, d_x, saved.x, saved.final_norm, lane);
    saved.x = {};
  } else {
    d_x = from_other_stage(batch, lane);
  }
  if (done) done(first_parameter_.back());
  for (size_t i = blocks_.size(); i-- > 0;) {
    lane.set_place(-1, static_cast<int>(i));
    d_x = co_await blocks_[i]->backward(std::move(d_x), batch, saved.blocks[i], lane);
    if (done) done(first_parameter_[i]);
  }
  lane.set_place(-1, -1);
  if (part_.embedding) co_await embedding_->backward(std::move(d_x), batch.tokens, 0, lane);
  if (done) done(0);
}

Task<Tensor> Transformer::logits(const Microbatch& batch, Tensor rows, Lane& lane) {
  TransformerSaved saved;
  Tensor x = co_await run_blocks(batch, false, saved, lane);
  x = co_await tensor_.gather(std::move(x), batch.rows(), lane);
  Tensor chosen = lane.compute().activation({rows.numel(), x.size(1)}, x.dtype());
  gather_rows(chosen, x, rows, lane.compute());
  Tensor normed = co_await final_norm_->forward(std::move(chosen), saved.final_norm, lane);
  co_return co_await head_->logits(std::move(normed), lane);
}

std::vector<Router*> Transformer::routers() {
  std::vector<Router*> routers;
  const auto add = [&](Block& block) {
    if (Router* router = block.router()) routers.push_back(router);
  };
  for (const auto& block : blocks_) add(*block);
  for (const auto& mtp : mtp_) add(mtp->block());
  return routers;
}

}  // namespace shoal
