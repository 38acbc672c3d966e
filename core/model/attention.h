// core/model/attention.h: what every attention layer offers a block.
//
// With tensor parallelism heads are split over the tensor ranks: `mine` are this rank's rows between layers, `rows` all
// of the microbatch's, as attention sees them, and `heads` the ones this rank holds (parallel/tensor_parallel.h).
#pragma once

#include <memory>
#include <variant>

#include "core/base/lane.h"
#include "core/model/kept_rows.h"
#include "core/model/linear_input.h"
#include "core/model/microbatch.h"
#include "core/model/norm.h"

namespace shoal {

// Kept from forward for backward.
struct GqaSaved {
  KeptInput x;  // [mine, hidden] the layer's input
  Tensor qkv;   // [rows, (heads + 2 kv_heads) * head_dim]; rotated in place when there is no q/k norm
  Tensor q, k;  // rotated, normalised copies; undefined without q/k norm
  NormSaved q_norm, k_norm;
  KeptRows out;        // [rows, heads * head_dim]
  Tensor log_sum_exp;  // [heads, rows]
};

struct MlaSaved {
  KeptInput x;  // [mine, hidden] of the projections down
  Tensor q_a;   // [mine, q_lora_rank]; undefined without q low-rank
  NormSaved q_a_norm;
  KeptInput q_in;  // [mine, q_lora_rank] q_a normalised; without q low-rank [mine, hidden]: x once more
  Tensor kv_a;     // [mine, kv_lora_rank + rope_dim], rope part rotated
  NormSaved kv_a_norm;
  KeptInput latents;   // [mine, kv_lora_rank] the latent part of kv_a normalised
  Tensor q;            // [rows, heads * qk_dim], rotated
  Tensor k, v;         // [rows, heads * qk_dim], [rows, heads * v_dim]
  KeptRows out;        // [rows, heads * v_dim]
  Tensor log_sum_exp;  // [heads, rows]
};

using AttentionSaved = std::variant<std::monostate, GqaSaved, MlaSaved>;

class Attention {
 public:
  virtual ~Attention() = default;
  // x [mine, hidden], normalised → [mine, hidden].
  virtual Task<Tensor> forward(Tensor x, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const = 0;
  // d_out [mine, hidden] → d_x [mine, hidden]. Frees what `saved` holds.
  virtual Task<Tensor> backward(Tensor d_out, const Microbatch& batch, AttentionSaved& saved, Lane& lane) const = 0;
};

// The layer's input, to be dropped after forward (undefined) and put back before backward.
inline void set_input(AttentionSaved& saved, Tensor x) {
  KeptInput input;
  input.mine = std::move(x);
  if (auto* gqa = std::get_if<GqaSaved>(&saved)) gqa->x = std::move(input);
  if (auto* mla = std::get_if<MlaSaved>(&saved)) mla->x = std::move(input);
}

}  // namespace shoal
