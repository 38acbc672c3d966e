// core/model/embedding.cpp: look-up and its mirror image.
#include "core/model/embedding.h"

#include "kernels/embedding.h"

namespace shoal {

namespace {

Parameter& declare(const ModelContext& context) {
  const ModelConfig& config = context.config;
  const double std = config.embedding_init_std() > 0 ? config.embedding_init_std() : context.init_std();
  const bool tied = config.tie_embeddings() && context.part.head;
  const int of_mtp = context.part.head ? static_cast<int>(config.mtp().depth()) : 0;
  const int lookups = (context.part.embedding ? 1 : 0) + of_mtp;
  // The last stage of a pipeline has a tied matrix for its head alone.
  const ParameterUse of_tied = lookups > 0 ? ParameterUse::kPlainAndMatrix : ParameterUse::kMatrix;
  Sharding sharding;
  sharding.dims = {context.tensor().part({config.vocab()}), config.hidden()};
  return context.store.add({.name = "embedding",
                            .shape = sharding.local_shape(),
                            .sharding = sharding,
                            .use = tied ? of_tied : ParameterUse::kPlain,
                            .group = ParameterGroup::kTensor,
                            .init_std = std,
                            .num_uses = tied ? lookups + 1 + of_mtp : lookups,
                            .num_plain_uses = lookups,
                            .grad_in_forward = tied});
}

}  // namespace

Embedding::Embedding(const ModelContext& context)
    : tensor_(context.tensor()), first_use_(context.part.embedding ? 0 : 1), table_(declare(context)) {
  const ShardDim& vocab = table_.spec().sharding.dims[0];
  shard_ = {.first_id = vocab.held[0].begin, .vocab = vocab.global};
}

Task<Tensor> Embedding::forward(Tensor tokens, Lane& lane) const {
  co_await table_.ready(lane);
  Tensor found = lane.compute().activation({tokens.numel(), table_.spec().shape[1]}, table_.weight().dtype());
  embedding_forward(found, table_.weight(), tokens, shard_, lane.compute());
  co_return co_await tensor_.sum_and_split(std::move(found), lane);
}

Task<void> Embedding::backward(Tensor d_out, Tensor tokens, int use, Lane& lane) const {
  d_out = co_await tensor_.gather(std::move(d_out), tokens.numel(), lane);
  embedding_backward(table_.grad(use - first_use_), d_out, tokens, shard_, lane.compute());
}

}  // namespace shoal
