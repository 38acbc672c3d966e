// kernels/permute_rows_cpu.h: CPU loops of moved and summed rows.
#pragma once

#include "core/base/tensor.h"

namespace shoal {

void gather_rows_cpu(Tensor out, const Tensor& x, const Tensor& index);
void sum_rows_cpu(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& index);
void sum_rows_nested_cpu(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& groups,
                         const Tensor& index);

}  // namespace shoal
