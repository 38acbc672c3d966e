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

// The part of the network this rank builds: all of it, or a range of layers (pipeline stages).
struct TransformerPart {
  int64_t first_layer = 0;
  int64_t num_layers = 0;
  bool embedding = true;
  bool head = true;

  static TransformerPart whole(const ModelConfig& config) { return {.num_layers = config.layers()}; }
};

struct TransformerSaved {
  std::vector<BlockSaved> blocks;
  Tensor x;  // [mine, hidden] behind the blocks
  NormSaved final_norm;
  Tensor d_normed;  // [mine, hidden] from the head
  std::vector<MtpSaved> mtp;
  std::vector<Tensor> aux_losses;  // [1] each: of the MoE blocks that have balance losses, in layer order
};

// [rows] f32 (f64) each, unscaled, 0 where masked, the same on every rank of a tensor group.
struct TransformerLosses {
  Tensor tokens;
  std::vector<Tensor> mtp;  // one a depth that the batch trains
};

class Transformer {
 public:
  // Declares every parameter in context.store, in forward order; GradientBuckets then gives them storage.
  Transformer(const ModelContext& context, const TransformerPart& part);

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
  Task<Tensor> run_blocks(const Microbatch& batch, bool keep, TransformerSaved& saved, Lane& lane);
  Task<void> run_mtp(const Microbatch& batch, Tensor normed, TransformerSaved& saved, TransformerLosses& losses,
                     Lane& lane);
  // → what multi-token prediction adds to the gradient of the final norm's output; undefined without.
  Task<Tensor> backward_mtp(const Microbatch& batch, TransformerSaved& saved, Lane& lane);

  TensorParallel tensor_;
  Embedding embedding_;
  std::vector<size_t> first_parameter_;  // in the store, of each block; last: of what is behind the blocks
  std::vector<std::unique_ptr<Block>> blocks_;
  Norm final_norm_;
  Head head_;
  std::vector<std::unique_ptr<Mtp>> mtp_;
};

}  // namespace shoal
