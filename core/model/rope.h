// core/model/rope.h: the rotation table of an attention layer.
#pragma once

#include "core/config/config.pb.h"
#include "kernels/rope.h"

namespace shoal {

// From the config: what the rotation of one attention layer needs. Each layer has a table of its own: 4 bytes * dim *
// max_position, little beside the layer's weights.
struct Rope {
  Tensor table;  // [max_position, dim / 2, 2]
  RopeLayout layout = RopeLayout::kHalfSplit;
  double softmax_factor = 1;  // YaRN's, multiplies the attention scale

  // dtype: the compute dtype; the table is f64 for f64, else f32. `max_position` bounds the positions it covers.
  Rope(const RopeConfig& config, int64_t dim, int64_t max_position, DType dtype, Allocator& allocator);
};

}  // namespace shoal
