// kernels/cross_entropy_cpu.h: the loss's CPU loops. Throws naming row and target when one is outside the logits.
#pragma once

#include "core/base/tensor.h"
#include "kernels/vocab_shard.h"

namespace shoal {

// An undefined `d_logits` asks for the losses alone.
void cross_entropy_cpu(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets, double scale);

void cross_entropy_statistics_cpu(Tensor statistics, const Tensor& logits, const Tensor& targets, VocabShard shard);
void cross_entropy_from_statistics_cpu(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                       const Tensor& statistics, VocabShard shard, double scale);

}  // namespace shoal
