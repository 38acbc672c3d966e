// kernels/rms_norm.h: out = x / rms(x) * weight, row by row (arXiv:1910.07467).
//
//   x, out   [rows, width]   rows may be strided (a column range of a wider matrix)
//   weight   [width]         same dtype as x, or f32
//   inv_rms  [rows]          f32 (f64 when x is f64): 1 / sqrt(mean(x²) + eps), kept for backward
//
// Arithmetic in f32 (f64 for f64). rows may be 0.
#pragma once

#include "core/base/stream.h"
#include "kernels/write_mode.h"

namespace shoal {

// May alias x.
void rms_norm_forward(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, double eps, Stream& stream);

// d_x is overwritten, or added to (the residual's gradient already in it). d_weight [width] f32 (f64) Accumulates, in
// an order that depends on neither thread count nor time (the sum over rows is formed first and added once). d_x may
// alias d_out when it overwrites.
void rms_norm_backward(Tensor d_x, Tensor d_weight, const Tensor& d_out, const Tensor& x, const Tensor& weight,
                       const Tensor& inv_rms, Write d_x_mode, Stream& stream);

}  // namespace shoal
