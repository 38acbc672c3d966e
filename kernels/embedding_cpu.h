// kernels/embedding_cpu.h: table look-up's CPU loops. Both throw naming row and id when an id is outside
// the vocabulary.
#pragma once

#include "core/base/tensor.h"
#include "kernels/vocab_shard.h"

namespace shoal {

void embedding_forward_cpu(Tensor out, const Tensor& table, const Tensor& tokens, VocabShard shard);
void embedding_backward_cpu(Tensor d_table, const Tensor& d_out, const Tensor& tokens, VocabShard shard);

}  // namespace shoal
