// tests/kernels/op_test.h: what the tests of ops share: devices, random tensors, errors and numerical gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "core/base/openmp.h"
#include "core/base/random.h"
#include "core/base/stream.h"
#include "kernels/cuda_libraries.h"
#include "tests/device_under_test.h"

namespace shoal {

struct TestDevice {
  explicit TestDevice(DeviceKind kind = device_under_test()) : allocator(kind), stream(allocator) {}

  Tensor empty(Shape shape, DType dtype) { return Tensor::empty(shape, dtype, allocator, MemoryKind::kActivations); }
  Tensor zeros(Shape shape, DType dtype) { return Tensor::zeros(shape, dtype, allocator, MemoryKind::kActivations); }

  // `values` rounded to a floating dtype.
  Tensor tensor(const std::vector<double>& values, Shape shape, DType dtype) {
    Tensor result = empty(shape, dtype);
    dispatch_floating(dtype, [&]<class T>(T) {
      std::vector<T> rounded;
      for (const double value : values) rounded.push_back(store<T>(value));
      result.copy_from(rounded);
    });
    return result;
  }
  Tensor indices(const std::vector<int32_t>& values, Shape shape) {
    Tensor result = empty(shape, DType::kI32);
    result.copy_from(values);
    return result;
  }

  Allocator allocator;
  Stream stream;
};

// Standard normal numbers; `name` picks the stream.
inline std::vector<double> normals(int64_t count, std::string_view name, double scale = 1) {
  const CounterRandom random(7, stream_of(name));
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(scale * random.normal(static_cast<uint64_t>(i)));
  return values;
}

// The elements in row order as double, rows strided or not.
inline std::vector<double> values_of(const Tensor& tensor) {
  std::vector<double> values;
  if (tensor.numel() == 0) return values;
  dispatch_floating(tensor.dtype(), [&]<class T>(T) {
    for (const T value : tensor.to_vector<T>()) values.push_back(static_cast<double>(load(value)));
  });
  return values;
}

// ‖a - reference‖ / ‖reference‖; 0 when both are empty.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& reference) {
  SHOAL_CHECK_EQ(a.size(), reference.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - reference[i]) * (a[i] - reference[i]);
    norm += reference[i] * reference[i];
  }
  if (a.empty() || difference == 0) return 0;
  return std::sqrt(difference / norm);
}

// Are the products of this dtype a library's? Its sums run in an order of its own, which may depend on the sizes; it is
// never asked for f64.
inline bool products_by_library(DType dtype) {
  return device_under_test() == DeviceKind::kCuda && dtype != DType::kF64 && may_call(CudaLibrary::kCublas);
}
// How far such products in f32 may be from the same ones in another order.
constexpr double kReorderedBound = 1e-5;
// Sums of FP8 products on Hopper's tensor cores keep about 14 bits of each 128 terms (arXiv:2412.19437 §3.5.2).
constexpr double kTensorCoreFp8Bound = 1.0 / 4096;

// How far an op without long sums may be from a double-precision reference on the same rounded inputs.
inline double forward_bound(DType dtype) {
  switch (dtype) {
    case DType::kF64: return 1e-13;
    case DType::kF32: return 1e-6;
    default: return 1e-2;
  }
}

// How far a gradient may be from central differences, and the step they take.
inline double gradient_bound(DType dtype) { return dtype == DType::kF64 ? 1e-6 : 1e-3; }
inline double gradient_step(DType dtype) { return dtype == DType::kF64 ? 1e-5 : 1e-2; }

// d loss / d at by central differences.
inline std::vector<double> numerical_gradient(const std::function<double(const std::vector<double>&)>& loss,
                                              std::vector<double> at, double step) {
  std::vector<double> gradient;
  for (double& value : at) {
    const double middle = value;
    value = middle + step;
    const double above = loss(at);
    value = middle - step;
    const double below = loss(at);
    value = middle;
    gradient.push_back((above - below) / (2 * step));
  }
  return gradient;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Bit by bit, whatever their strides.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && a.to_bytes() == b.to_bytes();
}

// Computes with another number of threads for as long as it lives.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadCount() { omp_set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

}  // namespace shoal
