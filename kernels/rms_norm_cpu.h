// kernels/rms_norm_cpu.h: RMSNorm's CPU loops.
#pragma once

#include "core/base/tensor.h"
#include "kernels/rms_norm_block.h"
#include "kernels/write_mode.h"

namespace shoal {

void row_sums_of_squares_cpu(Tensor sums, const Tensor& x);
void rms_norm_backward_dots_cpu(Tensor dots, const Tensor& d_out, const Tensor& x, const Tensor& weight);

// An undefined `sums` (forward) or `dots` (backward) asks for those of x itself: all columns are here then.
void rms_norm_forward_cpu(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, const Tensor& sums,
                          int64_t full_width, double eps);
// `partial` [ceil(rows / kRmsNormRowBlock), width] in the arithmetic dtype is scratch.
void rms_norm_backward_cpu(Tensor d_x, Tensor d_weight, Tensor partial, const Tensor& d_out, const Tensor& x,
                           const Tensor& weight, const Tensor& inv_rms, const Tensor& dots, int64_t full_width,
                           Write d_x_mode);

}  // namespace shoal
