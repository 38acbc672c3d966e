// parallel/ordered_sum.h: the sum behind every reduction: pieces of equal length added in the order given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"

namespace shoal {

// out[i] = ((pieces[0][i] + pieces[1][i]) + pieces[2][i]) + …   `count` elements of f64, f32, i64 or i32, in that type.
// `out` may be any one of the pieces. One thread: it runs on the communication thread, beside a compute step.
void ordered_sum(std::byte* out, const std::vector<const std::byte*>& pieces, int64_t count, DType dtype);

}  // namespace shoal
