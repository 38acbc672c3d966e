// core/checkpoint/compare_checkpoints.h: two checkpoints, tensor by tensor, whatever layouts wrote them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/checkpoint/native_checkpoint.h"

namespace shoal {

struct TensorDifference {
  std::string name;
  std::string note = {};  // why it cannot be compared: only in one of them, another shape or dtype
  int64_t differing = 0;  // elements whose bits differ
  int64_t numel = 0;
  double largest = 0;   // |a - b|; NaN where one is not a number
  double relative = 0;  // |a - b|₂ / |a|₂; of no meaning where a_is_zero
  bool a_is_zero = false;
};

// Of all tensors that are not equal to the bit, by name. What is a rank's own (residual/…) is left out. Reads both
// whole, a tensor at a time.
std::vector<TensorDifference> compare_checkpoints(const NativeCheckpoint& a, const NativeCheckpoint& b);

}  // namespace shoal
