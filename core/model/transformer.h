// core/model/transformer.h: embedding, blocks, head: the network of one rank.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/model/block.h"
#include "core/model/head.h"

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
  HeadSaved head;
  std::vector<Tensor> aux_losses;  // [1] each: of the MoE blocks that have balance losses, in layer order
};

class Transformer {
 public:
  // Declares every parameter in context.store, in forward order; GradientBuckets then gives them storage.
  Transformer(const ModelContext& context, const TransformerPart& part);

  // → losses [rows] f32 (f64), unscaled. With gradients, `saved` is filled for backward.
  Task<Tensor> forward(const Microbatch& batch, bool with_gradients, TransformerSaved& saved, Lane& lane);
  Task<void> backward(const Microbatch& batch, TransformerSaved& saved, Lane& lane);

  // Logits [rows.size(), vocab] of chosen rows, for generation.
  Task<Tensor> logits(const Microbatch& batch, Tensor rows, Lane& lane);

  // Routers of the MoE blocks, in layer order.
  std::vector<Router*> routers();

 private:
  Task<Tensor> run_blocks(const Microbatch& batch, bool keep, TransformerSaved& saved, Lane& lane);

  Parameter* embedding_ = nullptr;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::optional<Head> head_;
};

}  // namespace shoal
