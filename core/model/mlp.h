// core/model/mlp.h: the SwiGLU MLP: of a dense block, and shared by all tokens of a MoE block.
//
//   gate_up = x Wgate_upᵀ   [rows, 2 * ffn]      y = (silu(gate) * up) Wdownᵀ   [rows, hidden]
//
// Tensor parallel: rows gathered, ffn split (gate and up alike), y summed and its rows split.
#pragma once

#include "core/model/feed_forward.h"
#include "core/model/linear.h"
#include "core/model/model_context.h"
#include "core/model/swiglu_pair.h"

namespace shoal {

class Mlp final : public FeedForward {
 public:
  Mlp(const ModelContext& context, const std::string& prefix, int64_t ffn, LayerPart part);

  Task<Tensor> forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) override;
  Task<void> refill(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) override;
  Task<Tensor> backward(Tensor d_out, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) override;

  // `total`: rows of the microbatch.
  Task<Tensor> forward(Tensor x, int64_t total, MlpSaved& saved, Lane& lane) const;
  Task<void> refill(Tensor x, int64_t total, MlpSaved& saved, Lane& lane) const;
  Task<Tensor> backward(Tensor d_out, int64_t total, MlpSaved& saved, Lane& lane) const;

 private:
  // Reads saved.x.mine.
  Task<Tensor> project_up(int64_t total, MlpSaved& saved, Lane& lane) const;

  TensorParallel tensor_;
  ShardDim ffn_;  // of gate and of up
  LinearFormat format_;
  InputReader reader_;
  SwigluPair swiglu_;
  Linear gate_up_;
  Linear down_;
};

}  // namespace shoal
