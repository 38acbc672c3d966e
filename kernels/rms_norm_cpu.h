// kernels/rms_norm_cpu.h: RMSNorm's CPU loops.
#pragma once

#include "core/base/tensor.h"
#include "kernels/write_mode.h"

namespace shoal {

// Rows whose share of d_weight is summed together: fixed, so that the sum's order does not depend on threads.
constexpr int64_t kRmsNormRowBlock = 32;

void rms_norm_forward_cpu(Tensor out, Tensor inv_rms, const Tensor& x, const Tensor& weight, double eps);
// `partial` [ceil(rows / kRmsNormRowBlock), width] in the arithmetic dtype is scratch.
void rms_norm_backward_cpu(Tensor d_x, Tensor d_weight, Tensor partial, const Tensor& d_out, const Tensor& x,
                           const Tensor& weight, const Tensor& inv_rms, Write d_x_mode);

}  // namespace shoal
