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

// A norm of rows whose columns are split over ranks: every operand above is the columns here, `full_width` the columns
// on all ranks. What is summed over the ranks between two ops is [rows] in f32 (f64). With all columns on one rank the
// results have the bits of the ops above.

// Overwrites sums [rows]: Σ x² over the columns here.
void row_sums_of_squares(Tensor sums, const Tensor& x, Stream& stream);
// `sums` over all ranks. out may alias x.
void rms_norm_from_sums(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, const Tensor& sums,
                        int64_t full_width, double eps, Stream& stream);

// Overwrites dots [rows]: Σ d_out * weight * x over the columns here.
void rms_norm_backward_dots(Tensor dots, const Tensor& d_out, const Tensor& x, const Tensor& weight, Stream& stream);
// `dots` over all ranks. Overwrites d_x, which may alias d_out; d_weight Accumulates as in rms_norm_backward.
void rms_norm_backward_from_dots(Tensor d_x, Tensor d_weight, const Tensor& d_out, const Tensor& x,
                                 const Tensor& weight, const Tensor& inv_rms, const Tensor& dots, int64_t full_width,
                                 Stream& stream);

}  // namespace shoal
