// kernels/permute_rows.h: rows moved to where they are needed, and summed on the way back.
//
// gather_rows and sum_rows are each other's backward. Moved data is bitwise; sums run in f32 (f64), in the order of the
// index list, rounded once.
#pragma once

#include "core/base/stream.h"

namespace shoal {

// out[i] = x[index[i]].   out [n, width], x [m, width], index [n] i32.
void gather_rows(Tensor out, const Tensor& x, const Tensor& index, Stream& stream);

// out[t] = base[t] + Σ_{j in [first[t], first[t+1])} x[index[j]].   out [tokens, width]; base may be undefined (0), and
// out may alias base; first [tokens + 1] i32; index [first[tokens]] i32.
void sum_rows(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& index,
              Stream& stream);

// The same for lists of lists, as rows come back over two hops:
// out[t] = base[t] + Σ_{g in [first[t], first[t+1])} (Σ_{j in [groups[g], groups[g+1])} x[index[j]]).
//   first [tokens + 1] i32 into groups; groups [num_groups + 1] i32 into index; index [groups[num_groups]] i32
// Nothing is rounded between the sums: in f32 (f64) the bits are those of sum_rows over the sum_rows of the groups.
void sum_rows_nested(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& groups,
                     const Tensor& index, Stream& stream);

}  // namespace shoal
