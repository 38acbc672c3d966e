// core/model/transformer.h: embedding, blocks, head: the network of one rank.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/model/block.h"
#include "core/model/embedding.h"
#include "core/model/head.h"
#include "core/model/mtp.h"

namespace shoal {

struct TransformerSaved {
  std::vector<BlockSaved> blocks;
  Tensor x;  // [mine, hidden] behind the blocks
  NormSaved final_norm;
  Tensor d_normed;  // [mine, hidden] from the head
  std::vector<MtpSaved> mtp;
  std::vector<Tensor> aux_losses;  // [1] each: of the MoE blocks that have balance losses, in layer order
};

// [rows] f32 (f64) each, unscaled, 0 where masked, the same on every rank of a tensor group. Undefined without a head.
struct TransformerLosses {
  Tensor tokens;
  std::vector<Tensor> mtp;  // one a depth that the batch trains
};

class Transformer {
 public:
  // Declares every parameter of context.part in context.store, in forward order; GradientBuckets then gives them
  // storage. A part that is not the whole runs on paper only: what other stages would send has no contents.
  explicit Transformer(const ModelContext& context);

  // With gradients, `saved` is filled for backward, and multi-token prediction runs if the batch has targets for it.
  Task<TransformerLosses> forward(const Microbatch& batch, bool with_gradients, TransformerSaved& saved, Lane& lane);
  // `done` hears, from the last layer to the first, that all parameters of the store from this index on have their
  // gradients of this microbatch (a tied head apart: it is the embedding, the first).
  using LayerDone = std::function<void(size_t first_parameter)>;
  Task<void> backward(const Microbatch& batch, TransformerSaved& saved, Lane& lane, LayerDone done = {});

  // Logits [rows.size(), vocab] of chosen rows, for generation.
  Task<Tensor> logits(const Microbatch& batch, Tensor rows, Lane& lane);

  // Routers of the MoE blocks, in layer order, those of multi-token prediction last.
  std::vector<Router*> routers();

 private:
  // [mine, hidden]: what another stage sends.
  Tensor from_other_stage(const Microbatch& batch, Lane& lane) const;
  Task<Tensor> run_blocks(const Microbatch& batch, bool keep, TransformerSaved& saved, Lane& lane);
  Task<void> run_mtp(const Microbatch& batch, Tensor normed, TransformerSaved& saved, TransformerLosses& losses,
                     Lane& lane);
  // → what multi-token prediction adds to the gradient of the final norm's output; undefined without.
  Task<Tensor> backward_mtp(const Microbatch& batch, TransformerSaved& saved, Lane& lane);

  TransformerPart part_;
  DType compute_;
  int64_t hidden_;
  TensorParallel tensor_;
  std::optional<Embedding> embedding_;   // multi-token prediction's too
  std::vector<size_t> first_parameter_;  // in the store, of each block; last: of what is behind the blocks
  std::vector<std::unique_ptr<Block>> blocks_;
  std::optional<Norm> final_norm_;
  std::optional<Head> head_;
  std::vector<std::unique_ptr<Mtp>> mtp_;
};

}  // namespace shoal
