// kernels/reduce.h: sums whose value depends on the numbers alone, never on threads, ranks or time.
#pragma once

#include "core/base/stream.h"

namespace shoal {

// Elements per partial sum of squares: shards of a flat buffer begin at multiples of it, so that the list of partial
// sums, added in global order, is the same for every number of ranks.
constexpr int64_t kSumChunk = 4096;

// partial[i] = Σ x² over the i-th chunk of kSumChunk elements, in f64.   x [n] f32 (f64), partial [ceil(n / kSumChunk)]
//                                                                        f64.
void sum_of_squares(Tensor partial, const Tensor& x, Stream& stream);

// total[0] = Σ x in f64, in a fixed order.   x [n] f32 or f64, total [1] f64.
void sum(Tensor total, const Tensor& x, Stream& stream);

}  // namespace shoal
