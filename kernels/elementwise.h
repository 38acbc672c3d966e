// kernels/elementwise.h: casts, sums and fills between dense tensors of equal shape.
#pragma once

#include "core/base/stream.h"

namespace shoal {

// out = x in out's dtype, rounded to nearest even. Rows of either may be strided.
void cast(Tensor out, const Tensor& x, Stream& stream);
// out = a + b in out's dtype (arithmetic f32, or f64 when any is f64). May alias either.
void add(Tensor out, const Tensor& a, const Tensor& b, Stream& stream);
// into += x.
void accumulate(Tensor into, const Tensor& x, Stream& stream);
// x *= factor.
void scale(Tensor x, double factor, Stream& stream);
void fill_zero(Tensor x, Stream& stream);

}  // namespace shoal
