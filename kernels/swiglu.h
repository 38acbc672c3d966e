// kernels/swiglu.h: out = silu(gate) * up, the MLP's nonlinearity (arXiv:2002.05202).
//
//   gate_up  [rows, 2 * ffn]   gate in the first ffn columns, up in the last
//   out      [rows, ffn]
//   weights  [rows] f32 (f64 for f64)   the router's weight of each row, multiplied into out by the expert (…_weighted)
//
// Arithmetic in f32 (f64 for f64) whatever the storage. rows may be 0 (an expert nobody chose).
#pragma once

#include "core/base/stream.h"

namespace shoal {

void swiglu_forward(Tensor out, const Tensor& gate_up, Stream& stream);
// Overwrites d_gate_up. May alias gate_up, which is not needed afterwards.
void swiglu_backward(Tensor d_gate_up, const Tensor& d_out, const Tensor& gate_up, Stream& stream);

void swiglu_weighted_forward(Tensor out, const Tensor& gate_up, const Tensor& weights, Stream& stream);
// Overwrites d_gate_up (may alias gate_up) and d_weights [rows].
void swiglu_weighted_backward(Tensor d_gate_up, Tensor d_weights, const Tensor& d_out, const Tensor& gate_up,
                              const Tensor& weights, Stream& stream);

}  // namespace shoal
