// kernels/adamw.h: one pass of AdamW (arXiv:1711.05101) over a flat shard.
//
//   master  [n] f32 (f64)            m, v  [n] f32 or bf16 (f64)         grad  [n] f32 (f64)
//   weight  [n] f32, bf16 (f64)      the new master in the compute dtype, for the gather; may be undefined or alias
//                                    master
#pragma once

#include "core/base/stream.h"

namespace shoal {

struct AdamwStep {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;  // decoupled: master *= 1 - lr * weight_decay
  double grad_scale = 1;    // clip factor
  int64_t step = 1;         // 1-based, for the bias corrections
};

void adamw(Tensor master, Tensor m, Tensor v, Tensor weight, const Tensor& grad, const AdamwStep& step, Stream& stream);

}  // namespace shoal
