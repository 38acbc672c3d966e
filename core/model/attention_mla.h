// core/model/attention_mla.h: multi-head latent attention (DeepSeek-V2, arXiv:2405.04434).
//
//   q      = norm(x Wq_aᵀ) Wq_bᵀ  (or x Wqᵀ)    per head: nope | rope
//   kv_a   = x Wkv_aᵀ                            latent [kv_lora_rank] | one rope key for all heads
//   kv     = norm(latent) Wkv_bᵀ                 per head: nope key | value
//   out    = softmax(q kᵀ * scale) v,  scale = (nope + rope)^-0.5 times YaRN's factor
//   y      = out Woᵀ
//
// Tensor parallel: the low-rank projections and their norms are replicated and see this rank's rows only; what they
// give is gathered (narrow rows instead of hidden ones), heads are split, y is summed and its rows split.
#pragma once

#include <optional>

#include "core/model/attention.h"
#include "core/model/linear.h"
#include "core/model/model_context.h"
#include "core/model/rope.h"
#include "kernels/attention.h"
#include "kernels/mla_heads.h"

namespace shoal {

class AttentionMla final : public Attention {
 public:
  AttentionMla(const ModelContext& context, const std::string& prefix);

  Task<Tensor> forward(Tensor x, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const override;
  Task<Tensor> backward(Tensor d_out, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const override;

 private:
  TensorParallel tensor_;
  RecomputeConfig recompute_;
  MlaHeads heads_;  // that this rank holds
  int64_t latent_;  // kv_lora_rank
  Rope rope_;
  AttentionShape shape_;
  LinearFormat format_;
  WireFormat kept_out_;
  InputReader down_reader_;  // of this rank's rows
  InputReader up_reader_;    // of all rows
  std::optional<Linear> q_a_;
  std::optional<Norm> q_a_norm_;
  Linear q_b_;  // named "q" when there is no low rank
  Linear kv_a_;
  Norm kv_a_norm_;
  Linear kv_b_;
  Linear out_;

  // What the up-projections read, from what the down-projections gave.
  Task<void> normalize(MlaSaved& s, Lane& lane) const;
  // Queries, keys and values of all rows from the latents.
  Task<void> project_up(const Microbatch& batch, MlaSaved& s, Lane& lane) const;
  Task<Tensor> backward_queries(Tensor d_q, const Microbatch& batch, MlaSaved& s, Lane& lane) const;
  Task<Tensor> backward_latents(Tensor d_k, Tensor d_v, const Microbatch& batch, MlaSaved& s, Lane& lane) const;

  RopeShape q_rope() const;
  RopeShape k_rope() const;
};

}  // namespace shoal
