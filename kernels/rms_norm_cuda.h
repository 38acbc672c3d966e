// kernels/rms_norm_cuda.h: RMSNorm's CUDA kernels.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/write_mode.h"

namespace shoal {

void row_sums_of_squares_cuda(const TensorView& sums, const TensorView& x, CudaQueue queue);
void rms_norm_backward_dots_cuda(const TensorView& dots, const TensorView& d_out, const TensorView& x,
                                 const TensorView& weight, CudaQueue queue);

// An undefined `sums` (forward) or `dots` (backward) asks for those of x itself: all columns are here then.
void rms_norm_forward_cuda(const TensorView& out, const TensorView& inv_rms, const TensorView& x,
                           const TensorView& weight, const TensorView& sums, int64_t full_width, double eps,
                           CudaQueue queue);

struct RmsNormBackward {
  TensorView d_x, d_weight, d_out, x, weight, inv_rms, dots;
  TensorView partial;  // scratch: [rms_norm_shares_cuda(rows), width] in the arithmetic dtype
  int64_t full_width = 0;
  Write d_x_mode = Write::kOverwrites;
};
void rms_norm_backward_cuda(const RmsNormBackward& operands, CudaQueue queue);

}  // namespace shoal
