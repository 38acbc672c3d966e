// kernels/permute_rows_cuda.h: CUDA kernels of moved and summed rows.
#pragma once

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

void gather_rows_cuda(const TensorView& out, const TensorView& x, const TensorView& index, CudaQueue queue);

struct SummedRows {
  TensorView out, base, x;
  TensorView first;   // lists of rows, or of groups
  TensorView groups;  // lists of rows; undefined: the lists are not nested
  TensorView index;
};
void sum_rows_cuda(const SummedRows& operands, CudaQueue queue);

}  // namespace shoal
