// core/model/head.h: final norm, output projection and loss, in chunks of rows: logits never exist as a whole.
//
// The loss's scale is known before the step, so a chunk's gradient follows its loss at once: one visit to the logits,
// no recomputed GEMM. Forward therefore leaves d_x for backward.
#pragma once

#include "core/model/microbatch.h"
#include "core/model/model_context.h"
#include "core/model/norm.h"

namespace shoal {

struct HeadSaved {
  Tensor x;  // [rows, hidden] input
  NormSaved norm;
  Tensor d_normed;  // [rows, hidden]
};

class Head {
 public:
  // `tied` is the embedding's parameter, or null for a matrix of its own.
  Head(const ModelContext& context, Parameter* tied);

  // losses [rows] f32 (f64), unscaled, 0 where masked. With gradients: the weight's gradient is added to, `saved`
  // filled.
  Task<Tensor> forward(Tensor x, const Microbatch& batch, bool with_gradients, HeadSaved& saved, Lane& lane) const;
  // → d_x [rows, hidden].
  Task<Tensor> backward(HeadSaved& saved, Lane& lane) const;
  // logits [rows, vocab] f32 (f64), for generation.
  Task<Tensor> logits(Tensor x, Lane& lane) const;

 private:
  static constexpr int64_t kChunkRows = 512;  // fewer cost the GEMMs 10 % and more

  Norm norm_;
  Parameter& weight_;
  int use_;  // which gradient of a shared matrix is ours
};

}  // namespace shoal
