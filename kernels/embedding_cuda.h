// kernels/embedding_cuda.h: table look-up's CUDA kernels.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

// The table has the ids [first_id, first_id + table.rows) of a vocabulary of `vocab`.
struct TableIds {
  int64_t first_id = 0, vocab = 0;
};

void embedding_forward_cuda(const TensorView& out, const TensorView& table, const TensorView& tokens, TableIds ids,
                            CudaQueue queue);

// i32 elements that embedding_backward_cuda sorts `rows` tokens in.
int64_t embedding_sort_scratch(int64_t rows);
void embedding_backward_cuda(const TensorView& d_table, const TensorView& scratch, const TensorView& d_out,
                             const TensorView& tokens, TableIds ids, CudaQueue queue);

}  // namespace shoal
