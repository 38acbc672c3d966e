// kernels/reduce_chunk.h: how many elements each partial sum covers. Free of fmt, for .cu files.
#pragma once

#include <cstdint>

namespace shoal {

// Elements per partial sum of squares: shards of a flat buffer begin at multiples of it, so that the list of partial
// sums, added in global order, is the same for every number of ranks.
constexpr int64_t kSumChunk = 4096;

}  // namespace shoal
