// core/model/head.h: output projection and loss, in chunks of rows: logits never exist as a whole.
//
// The loss's scale is known before the step, so a chunk's gradient follows its loss at once: one visit to the logits,
// no recomputed GEMM. Forward therefore leaves the input's gradient for backward.
//
// Tensor parallel: rows gathered, the vocabulary split; the softmax's statistics are gathered chunk by chunk, so that
// every rank has all losses; the input's gradient is summed and its rows split.
#pragma once

#include "core/model/microbatch.h"
#include "core/model/model_context.h"
#include "kernels/vocab_shard.h"

namespace shoal {

// What is predicted from the rows, and how much it counts.
struct HeadTargets {
  Tensor ids;        // [rows] i32, -1: masked
  double scale = 0;  // of each token's loss
  int use = 0;       // which use of the head: 0 the model's own, k the k-th multi-token prediction's
};

class Head {
 public:
  // `tied` is the embedding's parameter, whose uses from `first_use` on are the head's; null: a matrix of its own.
  Head(const ModelContext& context, Parameter* tied, int first_use);

  // normed [mine, hidden] → losses [rows] f32 (f64), unscaled, 0 where masked, the same on every tensor rank. Unless
  // d_normed is null: the weight's gradient is added to, and *d_normed becomes [mine, hidden].
  Task<Tensor> forward(Tensor normed, HeadTargets targets, Tensor* d_normed, Lane& lane) const;
  // normed [rows, hidden], the same on every tensor rank → logits [rows, vocab] f32 (f64), for generation.
  Task<Tensor> logits(Tensor normed, Lane& lane) const;

 private:
  static constexpr int64_t kChunkRows = 512;  // fewer cost the GEMMs 10 % and more

  Task<void> losses_of_chunk(Tensor losses, Tensor d_logits, Tensor logits, Tensor targets, double scale,
                             Lane& lane) const;
  VocabShard shard() const;

  TensorParallel tensor_;
  Parameter& weight_;
  int first_use_;
};

}  // namespace shoal
