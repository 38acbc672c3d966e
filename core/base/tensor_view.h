// core/base/tensor_view.h: a tensor as a kernel sees it: an address and strides, no owner. Free of fmt, for .cu files.
#pragma once

#include "core/base/dtype.h"

namespace shoal {

struct TensorView {
  void* data = nullptr;    // null: an operand that was left out
  int64_t rows = 0;        // dim 0
  int64_t width = 0;       // elements of all dims behind it
  int64_t row_stride = 0;  // elements between the starts of rows
  DType dtype = DType::kF32;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  bool defined() const { return data != nullptr; }
};

}  // namespace shoal
