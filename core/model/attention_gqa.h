// core/model/attention_gqa.h: grouped-query attention (arXiv:2305.13245); kv_heads = heads is multi-head attention.
//
//   qkv = x Wqkvᵀ                     [rows, (heads + 2 kv_heads) * head_dim]: queries, keys, values
//   q, k normalised (optional), rotated
//   out = softmax(q kᵀ / sqrt(head_dim)) v, per document
//   y   = out Woᵀ                     [rows, hidden]
//
// Tensor parallel: rows gathered, heads split (queries, keys and values alike), y summed and its rows split.
#pragma once

#include <optional>

#include "core/model/attention.h"
#include "core/model/linear.h"
#include "core/model/model_context.h"
#include "core/model/rope.h"
#include "kernels/attention.h"

namespace shoal {

class AttentionGqa final : public Attention {
 public:
  AttentionGqa(const ModelContext& context, const std::string& prefix);

  Task<Tensor> forward(Tensor x, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const override;
  Task<Tensor> backward(Tensor d_out, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const override;

 private:
  TensorParallel tensor_;
  AttentionShape shape_;  // of the heads that this rank holds
  LinearFormat format_;
  WireFormat kept_out_;
  InputReader reader_;
  Linear qkv_;
  std::optional<Norm> q_norm_, k_norm_;
  Rope rope_;
  Linear out_;

  int64_t q_width() const { return shape_.heads * shape_.qk_dim; }
  int64_t kv_width() const { return shape_.kv_heads * shape_.qk_dim; }
  RopeShape rope_shape(int64_t heads) const;
};

}  // namespace shoal
