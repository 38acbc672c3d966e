// kernels/gemm_plain_cuda.h: matrix products on any GPU, in plain CUDA: the reference of the libraries' products, and
// what runs where they are not.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/gemm_kind.h"
#include "kernels/write_mode.h"

namespace shoal {

// Scales of e4m3 operands, one for each 128 of the summed index: that of row i and block b is
// data[i / rows_per_scale * row_stride + b * block_stride].
struct ScaleView {
  const float* data = nullptr;  // null: no scales
  int64_t rows_per_scale = 1;
  int64_t row_stride = 0, block_stride = 0;
};

// c [m, n] (+)= the product that `kind` says, of operands that lie as they are stored:
//   kForward         a [m, k] · bᵀ, b [n, k]
//   kBackwardInput   a [m, k] · b,  b [k, n]
//   kBackwardWeight  aᵀ · b, a [k, m], b [k, n]
// a and b share a dtype (f64, f32, bf16, e4m3); c has it too, or that of its arithmetic; f32 or bf16 for e4m3.
struct PlainProduct {
  GemmKind kind = GemmKind::kForward;
  Write mode = Write::kOverwrites;
  TensorView c, a, b;
  ScaleView a_scales = {}, b_scales = {};
};

// Sums run in ascending order of the summed index, in f32 (f64): a row of c is bitwise independent of how many are
// computed together. With scales, as kernels/gemm_fp8.h defines it. Nothing may be empty.
void gemm_plain_cuda(const char* op, const PlainProduct& product, CudaQueue queue);

}  // namespace shoal
