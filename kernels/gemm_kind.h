// kernels/gemm_kind.h: which of a linear layer's three products is meant.
#pragma once

namespace shoal {

enum class GemmKind {
  kForward,         // c [m, n] = a [m, k] · Wᵀ, W [n, k] packed
  kBackwardInput,   // c [m, n] = a [m, k] · W,  W [k, n] packed
  kBackwardWeight,  // c [m, n] = aᵀ · b, a [k, m], b [k, n]
};

}  // namespace shoal
