// core/model/embedding.h: rows of the embedding table by token id.
//
// Tensor parallel: the vocabulary is split; every rank looks up all rows, finds zeros for ids of other ranks, and the
// sum over ranks is split by rows.
#pragma once

#include "core/model/model_context.h"
#include "kernels/vocab_shard.h"

namespace shoal {

class Embedding {
 public:
  // Declares "embedding" [vocab, hidden]. Its uses: look-ups first (0 the model's own, k the k-th multi-token
  // prediction's), then, when tied, the head's in the same order. A part of the network has those it makes.
  explicit Embedding(const ModelContext& context);

  // tokens [rows] i32 → [mine, hidden].
  Task<Tensor> forward(Tensor tokens, Lane& lane) const;
  // d_out [mine, hidden]; adds to the gradient of this use.
  Task<void> backward(Tensor d_out, Tensor tokens, int use, Lane& lane) const;

  Parameter& parameter() const { return table_; }
  int num_lookups() const { return table_.spec().num_plain_uses; }

 private:
  TensorParallel tensor_;
  int first_use_;  // 1 where the model's own is another stage's
  Parameter& table_;
  VocabShard shard_;
};

}  // namespace shoal
