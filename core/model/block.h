// core/model/block.h: one pre-norm transformer block, dense or of experts.
//
//   h = x + attention(norm(x))        y = h + feed_forward(norm(h))
#pragma once

#include <memory>

#include "core/model/attention.h"
#include "core/model/feed_forward.h"
#include "core/model/model_context.h"
#include "core/model/moe.h"

namespace shoal {

// mine: this rank's rows between layers (parallel/tensor_parallel.h).
struct BlockSaved {
  Tensor x;  // [mine, hidden] input
  NormSaved attention_norm;
  AttentionSaved attention;
  Tensor h;  // [mine, hidden] after attention
  NormSaved ffn_norm;
  FeedForwardSaved ffn;
};

class Block {
 public:
  // `layer` is global: it names the parameters and says whether the block is dense. Layers behind the last are those of
  // multi-token prediction, like the last.
  Block(const ModelContext& context, int64_t layer);

  // x [mine, hidden] → [mine, hidden].
  Task<Tensor> forward(Tensor x, const Microbatch& batch, BlockSaved& saved, Lane& lane);
  Task<Tensor> backward(Tensor d_out, const Microbatch& batch, BlockSaved& saved, Lane& lane);

  // Null for a dense block.
  Router* router() { return moe_ ? &moe_->router() : nullptr; }

 private:
  // h from x.
  Task<void> attend(const Microbatch& batch, BlockSaved& saved, Lane& lane);
  void drop_recomputed(BlockSaved& saved) const;

  RecomputeConfig recompute_;
  Norm attention_norm_;
  std::unique_ptr<Attention> attention_;
  Norm ffn_norm_;
  std::unique_ptr<FeedForward> ffn_;
  Moe* moe_ = nullptr;  // ffn_, when it is one
};

// Balance losses of a block's forward, [1]; undefined without.
Tensor aux_loss_of(const BlockSaved& saved);

}  // namespace shoal
