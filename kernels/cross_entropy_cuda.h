// kernels/cross_entropy_cuda.h: the loss's CUDA kernels.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

// An undefined `d_logits` asks for the losses alone.
void cross_entropy_cuda(const TensorView& losses, const TensorView& d_logits, const TensorView& logits,
                        const TensorView& targets, double scale, CudaQueue queue);

// The logits' columns are the ids from `first_id` on of a vocabulary of `vocab`.
void cross_entropy_statistics_cuda(const TensorView& statistics, const TensorView& logits, const TensorView& targets,
                                   int64_t first_id, int64_t vocab, CudaQueue queue);

struct CrossEntropyFromStatistics {
  TensorView losses, d_logits, logits, targets, statistics;
  int64_t first_id = 0, vocab = 0;
  double scale = 0;
};
void cross_entropy_from_statistics_cuda(const CrossEntropyFromStatistics& operands, CudaQueue queue);

}  // namespace shoal
