// core/base/tensor.h: a typed view of shared storage.
//
// Copying a Tensor copies the view, never the elements. Rows (dim 0) may be strided, so that a column range of a
// matrix is a Tensor too; everything behind dim 0 is dense. An op says when it takes strided rows; the others check.
#pragma once

#include <memory>
#include <vector>

#include "core/base/allocator.h"
#include "core/base/dtype.h"
#include "core/base/shape.h"

namespace shoal {

class Tensor {
 public:
  Tensor() = default;

  // Not zeroed.
  static Tensor empty(Shape shape, DType dtype, Allocator& allocator, MemoryKind kind);
  static Tensor zeros(Shape shape, DType dtype, Allocator& allocator, MemoryKind kind);

  bool defined() const { return storage_ != nullptr; }
  DeviceKind device() const { return device_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int dims() const { return shape_.dims(); }
  int64_t size(int dim) const { return shape_[dim]; }
  int64_t numel() const { return shape_.numel(); }
  int64_t bytes() const { return numel() * size_of(dtype_); }
  // Elements between the starts of consecutive rows.
  int64_t row_stride() const { return row_stride_; }
  bool contiguous() const { return row_stride_ == shape_.row_numel() || (dims() > 0 && size(0) <= 1); }

  // The first element; throws when T is not the dtype. Null on kSimulated.
  template <class T>
  T* data() const {
    SHOAL_CHECK(DTypeOf<T>::value == dtype_, "asked for {}, tensor is {}", name_of(DTypeOf<T>::value), name_of(dtype_));
    return reinterpret_cast<T*>(raw());
  }
  std::byte* raw() const { return device_ == DeviceKind::kSimulated ? nullptr : storage_.get() + offset_bytes_; }

  // Views, no copy.
  Tensor rows(int64_t begin, int64_t count) const;     // dim 0 in [begin, begin + count)
  Tensor columns(int64_t begin, int64_t count) const;  // [rows, columns]: dim 1 in [begin, begin + count)
  Tensor reshape(Shape shape) const;                   // contiguous only, or when dim 0 stays
  Tensor operator[](int64_t index) const;              // drops dim 0
  Tensor viewed_as(DType dtype) const;                 // the same bits, in a type of the same size

  // A dense copy of the elements on the host. Not for kSimulated: see read_to_host in stream.h.
  template <class T>
  std::vector<T> to_vector() const {
    SHOAL_CHECK(contiguous() && device_ == DeviceKind::kCpu, "a dense CPU tensor is needed");
    return numel() == 0 ? std::vector<T>() : std::vector<T>(data<T>(), data<T>() + numel());
  }
  template <class T>
  void copy_from(const std::vector<T>& values) const;

 private:
  std::shared_ptr<std::byte> storage_;  // owner only: on kSimulated it holds null
  int64_t offset_bytes_ = 0;
  int64_t row_stride_ = 0;
  Shape shape_;
  DType dtype_ = DType::kF32;
  DeviceKind device_ = DeviceKind::kCpu;
};

template <class T>
void Tensor::copy_from(const std::vector<T>& values) const {
  SHOAL_CHECK(contiguous());
  SHOAL_CHECK_EQ(static_cast<int64_t>(values.size()), numel());
  if (device_ == DeviceKind::kSimulated) return;
  std::copy(values.begin(), values.end(), data<T>());
}

}  // namespace shoal
