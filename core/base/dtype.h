// core/base/dtype.h: element types of tensors, and the map from C++ types to them. Free of fmt, for .cu files.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/bfloat16.h"
#include "core/base/float8.h"

namespace shoal {

// kE4M3: codes; the scales of their tiles are a tensor of their own (kernels/quantize.h).
enum class DType : uint8_t { kF64, kF32, kBF16, kI64, kI32, kU8, kE4M3 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kBF16: return 2;
    case DType::kU8:
    case DType::kE4M3: return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kF64: return "f64";
    case DType::kF32: return "f32";
    case DType::kBF16: return "bf16";
    case DType::kI64: return "i64";
    case DType::kI32: return "i32";
    case DType::kU8: return "u8";
    case DType::kE4M3: return "e4m3";
  }
  return "?";
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<bfloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<float8_e4m3> {
  static constexpr DType value = DType::kE4M3;
};

// The type arithmetic on T is done in: double for f64, float for f32 and bf16.
template <class T>
struct ArithmeticOf {
  using type = T;
};
template <>
struct ArithmeticOf<bfloat16> {
  using type = float;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::type;

constexpr bool is_floating(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kBF16;
}

// What sums, statistics and gradients of a floating dtype are kept in: f64 for f64, else f32.
constexpr DType arithmetic_dtype(DType dtype) { return dtype == DType::kF64 ? DType::kF64 : DType::kF32; }

[[noreturn]] void fail_not_floating(DType dtype);

// Calls f(T{}) with the C++ type of a floating dtype: dispatch_floating(x.dtype(), [&]<class T>(T) { … }).
template <class F>
decltype(auto) dispatch_floating(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF64: return f(double{});
    case DType::kF32: return f(float{});
    case DType::kBF16: return f(bfloat16{});
    default: fail_not_floating(dtype);
  }
}

}  // namespace shoal
