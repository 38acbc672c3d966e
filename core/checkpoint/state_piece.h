// core/checkpoint/state_piece.h: what one rank holds of a tensor of the training state.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/tensor.h"
#include "parallel/sharding.h"

namespace shoal {

// Elements [begin, begin + values.numel()) of the shard `sharding` of the global tensor `name`. When a checkpoint is
// written, `values` are read, and over all ranks the pieces of a tensor cover it once; when it is loaded, they are
// written.
struct StatePiece {
  std::string name;
  Sharding sharding;  // with its dims, also where it is whole
  int64_t begin = 0;
  Tensor values;  // [count], dense
};

// A sharding that is no sharding.
inline Sharding whole_tensor(const Shape& shape) {
  Sharding sharding;
  for (int dim = 0; dim < shape.dims(); ++dim) sharding.dims.emplace_back(shape[dim]);
  return sharding;
}

}  // namespace shoal
