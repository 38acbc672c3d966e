// kernels/rope_cpu.h: the rotation's CPU loops.
#pragma once

#include "core/base/tensor.h"
#include "kernels/rope_shape.h"

namespace shoal {

// Throws naming the row when a position is outside the table.
void rope_cpu(Tensor x, const Tensor& positions, const Tensor& table, const RopeShape& shape, RopeDirection direction);

}  // namespace shoal
