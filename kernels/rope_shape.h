// kernels/rope_shape.h: which columns of a row's heads the rotation turns. Free of fmt, for .cu files.
#pragma once

#include <cstdint>

namespace shoal {

enum class RopeLayout { kInterleaved, kHalfSplit };  // pairs (2i, 2i+1), or (i, i + dim/2)
enum class RopeDirection { kForward, kBackward };

struct RopeShape {
  int64_t heads = 1;
  int64_t head_dim = 0;
  int64_t begin = 0;
  int64_t dim = 0;  // even
  RopeLayout layout = RopeLayout::kHalfSplit;
};

}  // namespace shoal
