// kernels/swiglu_row.h: one row of SwiGLU, for the op itself and for those that go on with its result at once.
#pragma once

#include "core/base/dtype.h"
#include "kernels/vector_math.h"

namespace shoal {

// out = silu(gate) * up * weight, rounded to T. Every element has the same bits in whatever run of elements it stands.
template <class T, class A>
inline void swiglu_row(T* out, const T* gate, const T* up, A weight, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const A g = load(gate[i]);
    out[i] = store<T>(g * vector_sigmoid(g) * load(up[i]) * weight);
  }
}

}  // namespace shoal
