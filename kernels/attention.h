// kernels/attention.h: causal scaled-dot-product attention over packed documents, in tiles (FlashAttention,
// arXiv:2205.14135): memory linear in the sequence, no [tokens, tokens] matrix.
//
//   q    [tokens, heads * qk_dim]       k    [tokens, kv_heads * qk_dim]     v  [tokens, kv_heads * v_dim]
//   out  [tokens, heads * v_dim]        log_sum_exp  [heads, tokens] f32 (f64 when q is f64), natural log, scaled
//                                                    logits
//   offsets  document d is tokens [offsets[d], offsets[d + 1]); offsets.back() == tokens. A token sees itself and the
//            earlier tokens of its document. Documents of length 0 are allowed.
//
// Query head h reads kv head h / (heads / kv_heads). Rows of every matrix may be strided (views into a fused
// projection). Arithmetic in f32 (f64 for f64); bf16 operands are widened, probabilities stay f32, results are rounded
// once. On a GPU cuDNN computes most bf16 calls, with probabilities rounded to bf16 (attention_cudnn.h).
#pragma once

#include <vector>

#include "core/base/stream.h"
#include "kernels/attention_shape.h"

namespace shoal {

void attention_forward(Tensor out, Tensor log_sum_exp, const Tensor& q, const Tensor& k, const Tensor& v,
                       const std::vector<int64_t>& offsets, const AttentionShape& shape, Stream& stream);

// Overwrites d_q, d_k, d_v (strided rows allowed). Deterministic: no atomics, sums in a fixed order, in cuDNN too.
void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, const Tensor& d_out, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& log_sum_exp,
                        const std::vector<int64_t>& offsets, const AttentionShape& shape, Stream& stream);

}  // namespace shoal
