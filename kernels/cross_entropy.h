// kernels/cross_entropy.h: the loss of a chunk of logits, and its gradient, in one visit.
//
//   logits    [rows, vocab]  f32 (f64)
//   targets   [rows] i32     -1: masked (loss 0, gradient 0); otherwise in [0, vocab), else throws
//   losses    [rows]         f32 (f64), natural log, unscaled
//   d_logits  [rows, vocab]  f32, bf16 or f64: scale * (softmax - onehot); may alias logits when the dtypes are equal
#pragma once

#include "core/base/stream.h"

namespace shoal {

void cross_entropy_forward(Tensor losses, const Tensor& logits, const Tensor& targets, Stream& stream);
void cross_entropy_forward_backward(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                    double scale, Stream& stream);

}  // namespace shoal
