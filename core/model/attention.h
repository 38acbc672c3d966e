// core/model/attention.h: what every attention layer offers a block.
#pragma once

#include <memory>
#include <variant>

#include "core/base/lane.h"
#include "core/model/microbatch.h"
#include "core/model/norm.h"

namespace shoal {

// Kept from forward for backward. rows = tokens of the microbatch.
struct GqaSaved {
  Tensor x;     // [rows, hidden] the layer's input
  Tensor qkv;   // [rows, (heads + 2 kv_heads) * head_dim]; rotated in place when there is no q/k norm
  Tensor q, k;  // rotated, normalised copies; undefined without q/k norm
  NormSaved q_norm, k_norm;
  Tensor out;          // [rows, heads * head_dim]
  Tensor log_sum_exp;  // [heads, rows]
};

struct MlaSaved {
  Tensor x;                // [rows, hidden]
  Tensor q_a, q_a_normed;  // [rows, q_lora_rank]; undefined without q low-rank
  NormSaved q_a_norm;
  Tensor q;            // [rows, heads * qk_dim], rotated
  Tensor kv_a;         // [rows, kv_lora_rank + rope_dim], rope part rotated
  Tensor kv_a_normed;  // [rows, kv_lora_rank]
  NormSaved kv_a_norm;
  Tensor k, v;         // [rows, heads * qk_dim], [rows, heads * v_dim]
  Tensor out;          // [rows, heads * v_dim]
  Tensor log_sum_exp;  // [heads, rows]
};

using AttentionSaved = std::variant<std::monostate, GqaSaved, MlaSaved>;

class Attention {
 public:
  virtual ~Attention() = default;
  // x [rows, hidden], normalised → [rows, hidden].
  virtual Task<Tensor> forward(Tensor x, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const = 0;
  // d_out [rows, hidden] → d_x [rows, hidden]. Frees what `saved` holds.
  virtual Task<Tensor> backward(Tensor d_out, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const = 0;
};

}  // namespace shoal
