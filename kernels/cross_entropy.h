// kernels/cross_entropy.h: the loss of a chunk of logits, and its gradient, in one visit.
//
//   logits    [rows, vocab]  f32 (f64)
//   targets   [rows] i32     -1: masked (loss 0, gradient 0); otherwise in [0, vocab), else throws (a GPU: stops)
//   losses    [rows]         f32 (f64), natural log, unscaled
//   d_logits  [rows, vocab]  f32, bf16 or f64: scale * (softmax - onehot); may alias logits when the dtypes are equal
#pragma once

#include "core/base/stream.h"
#include "kernels/vocab_shard.h"

namespace shoal {

void cross_entropy_forward(Tensor losses, const Tensor& logits, const Tensor& targets, Stream& stream);
void cross_entropy_forward_backward(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                    double scale, Stream& stream);

// The same with the logits' columns split over ranks: each takes the statistics of its [rows, shard] (shard may be 0),
// all ranks gather them, and every rank computes all losses, bitwise alike, and the gradient of its own columns.
//
//   targets     [rows] i32      ids of the whole vocabulary, -1: masked
//   statistics  [rows, 3] f64   maximum of the shard's logits (lowest double if there are none), Σ exp(logit - maximum)
//                               over the shard, and the target's logit if the shard holds it, else 0
void cross_entropy_statistics(Tensor statistics, const Tensor& logits, const Tensor& targets, VocabShard shard,
                              Stream& stream);

// `statistics` [ranks, rows, 3]: every rank's, in rank order. An undefined `d_logits` [rows, shard] asks for the losses
// alone; else as above, it may alias logits when the dtypes are equal.
void cross_entropy_from_statistics(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                   const Tensor& statistics, VocabShard shard, double scale, Stream& stream);

}  // namespace shoal
