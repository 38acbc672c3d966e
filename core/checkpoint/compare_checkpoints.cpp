// core/checkpoint/compare_checkpoints.cpp: each tensor put together from its pieces, twice.
#include "core/checkpoint/compare_checkpoints.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/safetensors_header.h"

namespace shoal {

namespace {

std::map<std::string, const StateTensor*> tensors_of(const NativeCheckpoint& checkpoint) {
  std::map<std::string, const StateTensor*> tensors;
  for (const StateTensor& tensor : checkpoint.manifest().tensor()) {
    if (!tensor.name().starts_with("residual/")) tensors[tensor.name()] = &tensor;
  }
  return tensors;
}

Shape shape_of(const StateTensor& tensor) {
  Shape shape;
  for (const int64_t extent : tensor.shape()) shape.append(extent);
  return shape;
}

Tensor whole(const NativeCheckpoint& checkpoint, const StateTensor& tensor, Allocator& host) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    if (safetensors_name(dtype) != tensor.dtype()) continue;
    const Shape shape = shape_of(tensor);
    const Tensor values = Tensor::empty({shape.numel()}, dtype, host, MemoryKind::kWorkspace);
    checkpoint.read({.name = tensor.name(), .sharding = whole_tensor(shape), .begin = 0, .values = values});
    return values;
  }
  fail("tensor \"{}\": values of {} are not compared", tensor.name(), tensor.dtype());
}

double wide(double x) { return x; }
double wide(float x) { return x; }
double wide(bfloat16 x) { return static_cast<float>(x); }

template <class T>
void compare_values(const Tensor& a, const Tensor& b, TensorDifference& found) {
  double squares = 0, squares_a = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const T x = a.data<T>()[i], y = b.data<T>()[i];
    const double wide_x = wide(x), wide_y = wide(y);
    squares_a += wide_x * wide_x;
    if (std::memcmp(&x, &y, sizeof(T)) == 0) continue;
    ++found.differing;
    const double difference = std::abs(wide_x - wide_y);
    squares += difference * difference;
    if (!(difference <= found.largest)) found.largest = difference;  // NaN stays
  }
  found.a_is_zero = squares_a == 0;
  if (!found.a_is_zero) found.relative = std::sqrt(squares / squares_a);
}

}  // namespace

std::vector<TensorDifference> compare_checkpoints(const NativeCheckpoint& a, const NativeCheckpoint& b) {
  const auto in_a = tensors_of(a), in_b = tensors_of(b);
  Allocator host(DeviceKind::kCpu);
  std::vector<TensorDifference> differences;
  for (const auto& [name, tensor] : in_a) {
    TensorDifference found{.name = name, .numel = numel_of(*tensor)};
    const auto other = in_b.find(name);
    if (other == in_b.end()) {
      found.note = "only in the first";
    } else if (shape_of(*tensor) != shape_of(*other->second)) {
      found.note = fmt::format("shape {} and {}", shape_of(*tensor), shape_of(*other->second));
    } else if (tensor->dtype() != other->second->dtype()) {
      found.note = fmt::format("dtype {} and {}", tensor->dtype(), other->second->dtype());
    } else {
      const Tensor x = whole(a, *tensor, host), y = whole(b, *other->second, host);
      dispatch_floating(x.dtype(), [&]<class T>(T) { compare_values<T>(x, y, found); });
    }
    if (!found.note.empty() || found.differing > 0) differences.push_back(std::move(found));
  }
  for (const auto& [name, tensor] : in_b) {
    if (!in_a.contains(name)) {
      differences.push_back({.name = name, .note = "only in the second", .numel = numel_of(*tensor)});
    }
  }
  return differences;
}

}  // namespace shoal
