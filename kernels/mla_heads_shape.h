// kernels/mla_heads_shape.h: the parts of a head of multi-head latent attention. Free of fmt, for .cu files.
#pragma once

#include <cstdint>

namespace shoal {

struct MlaHeads {
  int64_t heads = 0;
  int64_t nope = 0;
  int64_t rope = 0;
  int64_t v_dim = 0;
};

}  // namespace shoal
