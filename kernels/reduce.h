// kernels/reduce.h: sums whose value depends on the numbers alone, never on threads, ranks or time.
#pragma once

#include "core/base/stream.h"
#include "kernels/reduce_chunk.h"

namespace shoal {

// partial[i] = Σ x² over the i-th chunk of kSumChunk elements, in f64.   x [n] f32 (f64), partial [ceil(n / kSumChunk)]
//                                                                        f64.
void sum_of_squares(Tensor partial, const Tensor& x, Stream& stream);

// total[0] = Σ x in f64, in a fixed order.   x [n] f32 or f64, total [1] f64.
void sum(Tensor total, const Tensor& x, Stream& stream);

}  // namespace shoal
