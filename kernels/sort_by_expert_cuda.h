// kernels/sort_by_expert_cuda.h: the sort by expert's CUDA kernels.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

// Choices that one block of threads counts and places.
constexpr int64_t kChoicesOfBlock = 512;

// What a block's shared memory holds counts of.
constexpr int64_t kMostSortedExpertsOnCuda = 6000;

// Operands as in sort_by_expert.h.
struct SortByExpertOnCuda {
  TensorView counts, source_row, first, sorted_rows, row_weights, experts, weights;
  TensorView scratch;  // i32, as many as sort_by_expert_scratch says
};
// Where each block's choices of each expert begin.
constexpr int64_t sort_by_expert_scratch(int64_t choices, int64_t num_experts) {
  return (choices + kChoicesOfBlock - 1) / kChoicesOfBlock * num_experts;
}

void sort_by_expert_cuda(const SortByExpertOnCuda& operands, CudaQueue queue);

}  // namespace shoal
