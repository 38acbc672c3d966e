// kernels/transpose_cuda.h: matrices laid out the other way, as products on tensor cores want them.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

// FP8 codes: to [width, padded_rows] dense = from [rows, width] transposed, zeros from column `rows` on. padded_rows is
// a multiple of 16 and at least rows; `to` is 16-byte aligned.
void transpose_codes_cuda(std::byte* to, int64_t padded_rows, const TensorView& from, CudaQueue queue);

// Scales, f32: to [width, rows], its rows to_stride apart, = from [rows, width] transposed.
void transpose_scales_cuda(float* to, int64_t to_stride, const TensorView& from, CudaQueue queue);

}  // namespace shoal
