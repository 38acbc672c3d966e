// core/model/transformer.cpp: rows in, losses out, gradients back.
#include "core/model/transformer.h"

#include "kernels/embedding.h"
#include "kernels/permute_rows.h"

namespace shoal {

Transformer::Transformer(const ModelContext& context, const TransformerPart& part) {
  const ModelConfig& config = context.config;
  SHOAL_CHECK(part.embedding && part.head && part.num_layers == config.layers(), "pipeline stages are not built yet");
  const double embedding_std = config.embedding_init_std();
  embedding_ = &context.store.add({.name = "embedding",
                                   .shape = {config.vocab(), config.hidden()},
                                   .use = ParameterUse::kPlain,
                                   .init_std = embedding_std > 0 ? embedding_std : context.init_std(),
                                   .num_uses = config.tie_embeddings() ? 2 : 1,
                                   .grad_in_forward = config.tie_embeddings()});
  for (int64_t i = 0; i < part.num_layers; ++i) {
    blocks_.push_back(std::make_unique<Block>(context, part.first_layer + i));
  }
  head_.emplace(context, config.tie_embeddings() ? embedding_ : nullptr);
}

Task<Tensor> Transformer::run_blocks(const Microbatch& batch, bool keep, TransformerSaved& saved, Lane& lane) {
  co_await embedding_->ready(lane);
  Tensor x = lane.compute().activation({batch.rows(), embedding_->spec().shape[1]}, embedding_->weight().dtype());
  embedding_forward(x, embedding_->weight(), batch.tokens, lane.compute());
  saved.blocks.resize(blocks_.size());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = co_await blocks_[i]->forward(std::move(x), batch, saved.blocks[i], lane);
    const auto* moe = std::get_if<MoeSaved>(&saved.blocks[i].ffn);
    if (moe != nullptr && moe->router.aux_loss.defined()) saved.aux_losses.push_back(moe->router.aux_loss);
    if (!keep) saved.blocks[i] = {};
  }
  co_return x;
}

Task<Tensor> Transformer::forward(const Microbatch& batch, bool with_gradients, TransformerSaved& saved, Lane& lane) {
  Tensor x = co_await run_blocks(batch, with_gradients, saved, lane);
  co_return co_await head_->forward(std::move(x), batch, with_gradients, saved.head, lane);
}

Task<void> Transformer::backward(const Microbatch& batch, TransformerSaved& saved, Lane& lane) {
  Tensor d_x = co_await head_->backward(saved.head, lane);
  for (size_t i = blocks_.size(); i-- > 0;) {
    d_x = co_await blocks_[i]->backward(std::move(d_x), batch, saved.blocks[i], lane);
  }
  embedding_backward(embedding_->grad(), d_x, batch.tokens, lane.compute());
}

Task<Tensor> Transformer::logits(const Microbatch& batch, Tensor rows, Lane& lane) {
  TransformerSaved saved;
  const Tensor x = co_await run_blocks(batch, false, saved, lane);
  Tensor chosen = lane.compute().activation({rows.numel(), x.size(1)}, x.dtype());
  gather_rows(chosen, x, rows, lane.compute());
  co_return co_await head_->logits(std::move(chosen), lane);
}

std::vector<Router*> Transformer::routers() {
  std::vector<Router*> routers;
  for (const auto& block : blocks_) {
    if (Router* router = block->router()) routers.push_back(router);
  }
  return routers;
}

}  // namespace shoal
