// core/checkpoint/tensor_source.h: a model's tensors by Shoal's global names, wherever they are stored.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/base/tensor.h"

namespace shoal {

struct SourceTensor {
  Shape shape;                // global
  DType dtype = DType::kF32;  // as stored
};

// Parameters ("layers.3.attention.q") and router biases ("layers.3.router.bias"); no optimizer state.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // For messages: the file or folder.
  virtual std::string description() const = 0;
  virtual const std::map<std::string, SourceTensor>& tensors() const = 0;
  // Reads elements [begin, begin + out.numel()) of the row-major global tensor into `out` (dense, CPU), rounding to its
  // floating dtype. Equal dtypes are copied bit for bit. Throws for an unknown name and for whatever is wrong on disk.
  virtual void read(const std::string& name, int64_t begin, const Tensor& out) const = 0;
};

}  // namespace shoal
