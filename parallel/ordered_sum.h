// parallel/ordered_sum.h: the sum behind every reduction: pieces of equal length added in the order given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"

namespace shoal {

// All types but codes: u8 and e4m3.
constexpr bool is_summed(DType dtype) { return dtype != DType::kU8 && dtype != DType::kE4M3; }

// out[i] = ((pieces[0][i] + pieces[1][i]) + pieces[2][i]) + …   `count` elements, in their own type; bf16 in f32,
// rounded once at the end. `out` may be any one of the pieces. One thread: it runs on the communication thread, beside
// a compute step.
void ordered_sum(std::byte* out, const std::vector<const std::byte*>& pieces, int64_t count, DType dtype);

}  // namespace shoal
