// core/base/tensor.cpp: views and their checks.
#include "core/base/tensor.h"

#include <cstring>

namespace shoal {

Tensor Tensor::empty(Shape shape, DType dtype, Allocator& allocator, MemoryKind kind) {
  Tensor tensor;
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  tensor.device_ = allocator.device();
  tensor.queue_ = allocator.queue();
  tensor.row_stride_ = shape.row_numel();
  int64_t bytes = 0;
  SHOAL_CHECK(!__builtin_mul_overflow(shape.numel(), size_of(dtype), &bytes), "bytes of {} overflow", shape);
  tensor.storage_ = allocator.allocate(bytes, kind);
  // A simulated block is a null pointer with an owner: `defined` must still hold, so alias a non-null address.
  if (tensor.storage_ == nullptr) {
    static std::byte no_storage;
    tensor.storage_ = std::shared_ptr<std::byte>(tensor.storage_, &no_storage);
  }
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Allocator& allocator, MemoryKind kind) {
  Tensor tensor = empty(shape, dtype, allocator, kind);
  if (tensor.device_ == DeviceKind::kCuda)
    zero_rows_cuda(tensor.raw(), tensor.bytes(), tensor.bytes(), 1, tensor.queue_);
  if (tensor.device_ == DeviceKind::kCpu) std::memset(tensor.raw(), 0, static_cast<size_t>(tensor.bytes()));
  return tensor;
}

TensorView Tensor::view() const {
  if (!defined()) return {};
  const int64_t rows = dims() > 0 ? size(0) : 1;
  return {.data = raw(), .rows = rows, .width = shape_.row_numel(), .row_stride = row_stride_, .dtype = dtype_};
}

std::vector<std::byte> Tensor::to_bytes() const {
  SHOAL_CHECK(device_ != DeviceKind::kSimulated, "a simulated tensor has no elements");
  std::vector<std::byte> all(static_cast<size_t>(bytes()));
  copy_to_host(all.data());
  return all;
}

void Tensor::copy_to_host(void* to) const {
  const TensorView from = view();
  const int64_t width_bytes = from.width * size_of(dtype_), pitch = from.row_stride * size_of(dtype_);
  if (device_ == DeviceKind::kCuda) {
    return copy_rows_cuda({to, width_bytes, from.data, pitch, width_bytes, from.rows}, queue_, CopyWait::kWaits);
  }
  for (int64_t row = 0; row < from.rows && width_bytes > 0; ++row) {
    std::memcpy(static_cast<std::byte*>(to) + row * width_bytes, raw() + row * pitch, static_cast<size_t>(width_bytes));
  }
}

void Tensor::copy_from_host(const void* from) const {
  if (device_ == DeviceKind::kCuda) {
    return upload_to_cuda(raw(), from, bytes(), queue_);
  }
  if (device_ == DeviceKind::kCpu && numel() > 0) std::memcpy(raw(), from, static_cast<size_t>(bytes()));
}

void copy_elements(const Tensor& to, const Tensor& from) {
  SHOAL_CHECK_EQ(to.shape(), from.shape());
  SHOAL_CHECK(to.dtype() == from.dtype() && to.contiguous() && from.contiguous(), "dense {} from {}",
              name_of(to.dtype()), name_of(from.dtype()));
  if (to.device() == DeviceKind::kSimulated || to.numel() == 0) return;
  if (from.device() != DeviceKind::kCuda) return to.copy_from_host(from.raw());
  if (to.device() != DeviceKind::kCuda) return from.copy_to_host(to.raw());
  copy_rows_cuda({to.raw(), to.bytes(), from.raw(), to.bytes(), to.bytes(), 1}, to.queue_, CopyWait::kReturnsAtOnce);
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  SHOAL_CHECK(dims() >= 1 && begin >= 0 && count >= 0 && begin + count <= size(0), "rows [{}, {}) of {}", begin,
              begin + count, shape_);
  Tensor view = *this;
  view.offset_bytes_ += begin * row_stride_ * size_of(dtype_);
  Shape shape{count};
  for (int dim = 1; dim < dims(); ++dim) shape.append(size(dim));
  view.shape_ = shape;
  return view;
}

Tensor Tensor::columns(int64_t begin, int64_t count) const {
  SHOAL_CHECK(dims() == 2 && begin >= 0 && count >= 0 && begin + count <= size(1), "columns [{}, {}) of {}", begin,
              begin + count, shape_);
  Tensor view = *this;
  view.offset_bytes_ += begin * size_of(dtype_);
  view.shape_ = Shape{size(0), count};
  return view;
}

Tensor Tensor::reshape(Shape shape) const {
  SHOAL_CHECK_EQ(shape.numel(), numel());
  Tensor view = *this;
  view.shape_ = shape;
  if (contiguous()) {
    view.row_stride_ = shape.row_numel();
  } else {
    SHOAL_CHECK(shape.dims() > 0 && shape[0] == size(0), "{} has strided rows and cannot become {}", shape_, shape);
  }
  return view;
}

Tensor Tensor::viewed_as(DType dtype) const {
  SHOAL_CHECK(size_of(dtype) == size_of(dtype_), "{} viewed as {}", name_of(dtype_), name_of(dtype));
  Tensor view = *this;
  view.dtype_ = dtype;
  return view;
}

Tensor Tensor::operator[](int64_t index) const {
  SHOAL_CHECK(dims() >= 1 && index >= 0 && index < size(0), "index {} of {}", index, shape_);
  Tensor view = *this;
  view.offset_bytes_ += index * row_stride_ * size_of(dtype_);
  Shape shape;
  for (int dim = 1; dim < dims(); ++dim) shape.append(size(dim));
  view.shape_ = shape;
  view.row_stride_ = shape.row_numel();
  return view;
}

}  // namespace shoal
