// core/checkpoint/finite_values.h: whether values are numbers, at the speed of memory.
#pragma once

#include <cstdint>

#include "core/base/dtype.h"

namespace shoal {

// The first of `count` values of a floating dtype that is NaN or infinite; -1: none. Of another dtype every value is
// good.
int64_t first_not_finite(const void* values, int64_t count, DType dtype);

}  // namespace shoal
