// kernels/embedding_cpu.h: table look-up's CPU loops. Both throw naming row and id when an id is outside the table.
#pragma once

#include "core/base/tensor.h"

namespace shoal {

void embedding_forward_cpu(Tensor out, const Tensor& table, const Tensor& tokens);
void embedding_backward_cpu(Tensor d_table, const Tensor& d_out, const Tensor& tokens);

}  // namespace shoal
