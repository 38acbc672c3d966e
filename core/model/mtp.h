// core/model/mtp.h: one depth of multi-token prediction (DeepSeek-V3, arXiv:2412.19437): one more block, whose rows
// predict one token further.
//
//   x   = eh_proj([norm(embedding of token i + k) | norm(h)])    [mine, hidden]
//   out = norm(block(x))                                         → the shared head: token i + k + 1
//
// h is the rows behind the model's final norm, or behind the norm of the depth before (as the engines that serve the
// released model read it); the embedding comes first in the pair. Embedding and head are the model's own.
#pragma once

#include "core/model/block.h"
#include "core/model/linear.h"

namespace shoal {

// mine: this rank's rows.
struct MtpSaved {
  Tensor embedded, previous;  // [mine, hidden] the two inputs
  NormSaved embedded_norm, previous_norm;
  Tensor pair;  // [mine, 2 * hidden]
  BlockSaved block;
  Tensor block_out;  // [mine, hidden]
  NormSaved norm;
  Tensor d_normed;  // [mine, hidden] from the head
};

class Mtp {
 public:
  // depth counts from 0; the block is layer model.layers + depth.
  Mtp(const ModelContext& context, int64_t depth);

  // embedded, previous [mine, hidden] → normed [mine, hidden].
  Task<Tensor> forward(Tensor embedded, Tensor previous, const Microbatch& batch, MtpSaved& saved, Lane& lane);

  struct Gradients {
    Tensor d_embedded;
    Tensor d_previous;
  };
  // d_normed [mine, hidden]. Frees what `saved` holds.
  Task<Gradients> backward(Tensor d_normed, const Microbatch& batch, MtpSaved& saved, Lane& lane);

  Block& block() { return block_; }

 private:
  Norm embedded_norm_;
  Norm previous_norm_;
  Linear project_;
  Block block_;
  Norm norm_;
};

}  // namespace shoal
