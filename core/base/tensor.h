// core/base/tensor.h: a typed view of shared storage.
//
// Copying a Tensor copies the view, never the elements. Rows (dim 0) may be strided, so that a column range of a
// matrix is a Tensor too; everything behind dim 0 is dense. An op says when it takes strided rows; the others check.
#pragma once

#include <memory>
#include <vector>

#include "core/base/allocator.h"
#include "core/base/check.h"
#include "core/base/dtype.h"
#include "core/base/shape.h"
#include "core/base/tensor_view.h"

namespace shoal {

class Tensor {
 public:
  Tensor() = default;

  // Not zeroed.
  static Tensor empty(Shape shape, DType dtype, Allocator& allocator, MemoryKind kind);
  static Tensor zeros(Shape shape, DType dtype, Allocator& allocator, MemoryKind kind);

  bool defined() const { return storage_ != nullptr; }
  DeviceKind device() const { return device_; }
  // In whose order its memory is used and given back; null but on kCuda.
  CudaQueue queue() const { return queue_; }
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

  // A dense copy of the elements on the host; waits for what the device still has to do. Not for kSimulated: see
  // read_to_host in stream.h.
  template <class T>
  std::vector<T> to_vector() const;
  // The same, as bytes.
  std::vector<std::byte> to_bytes() const;
  // Dense tensors. `values` are the caller's again on return.
  template <class T>
  void copy_from(const std::vector<T>& values) const;

  friend void copy_elements(const Tensor& to, const Tensor& from);

  // As kernels see it: dim 0 and all behind it. Null when undefined.
  TensorView view() const;

 private:
  void copy_to_host(void* to) const;
  void copy_from_host(const void* from) const;

  std::shared_ptr<std::byte> storage_;  // owner only: on kSimulated it holds null
  int64_t offset_bytes_ = 0;
  int64_t row_stride_ = 0;
  Shape shape_;
  DType dtype_ = DType::kF32;
  DeviceKind device_ = DeviceKind::kCpu;
  CudaQueue queue_ = nullptr;  // the rank's, for copies
};

template <class T>
std::vector<T> Tensor::to_vector() const {
  SHOAL_CHECK(device_ != DeviceKind::kSimulated, "a simulated tensor has no elements");
  std::vector<T> values(static_cast<size_t>(numel()));
  SHOAL_CHECK(DTypeOf<T>::value == dtype_, "asked for {}, tensor is {}", name_of(DTypeOf<T>::value), name_of(dtype_));
  copy_to_host(values.data());
  return values;
}

// Between any two of host and device: the same shape and dtype, both dense. Waits when either is on the host.
void copy_elements(const Tensor& to, const Tensor& from);

template <class T>
void Tensor::copy_from(const std::vector<T>& values) const {
  SHOAL_CHECK(contiguous());
  SHOAL_CHECK_EQ(static_cast<int64_t>(values.size()), numel());
  SHOAL_CHECK(DTypeOf<T>::value == dtype_, "given {}, tensor is {}", name_of(DTypeOf<T>::value), name_of(dtype_));
  copy_from_host(values.data());
}

}  // namespace shoal
