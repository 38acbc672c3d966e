// kernels/mla_heads.h: the heads of multi-head latent attention, put together from what its projections give.
//
//   kv      [rows, heads * (nope + v_dim)]   per head: key without position, value
//   k_rope  [rows, rope]                     one rotated key part for all heads; rows may be strided
//   k       [rows, heads * (nope + rope)]    per head: key without position, then k_rope
//   v       [rows, heads * v_dim]
//
// Moved data, bitwise; backward sums k_rope's gradient over heads, ascending, in f32 (f64).
#pragma once

#include "core/base/stream.h"
#include "kernels/mla_heads_shape.h"

namespace shoal {

void mla_heads_forward(Tensor k, Tensor v, const Tensor& kv, const Tensor& k_rope, const MlaHeads& shape,
                       Stream& stream);
// Overwrites d_kv and d_k_rope.
void mla_heads_backward(Tensor d_kv, Tensor d_k_rope, const Tensor& d_k, const Tensor& d_v, const MlaHeads& shape,
                        Stream& stream);

}  // namespace shoal
