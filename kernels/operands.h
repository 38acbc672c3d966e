// kernels/operands.h: what the public doors of the ops share: device checks and operand bytes.
#pragma once

#include <span>

#include "core/base/stream.h"

namespace shoal {

// Elements below which a parallel region costs more than it saves.
constexpr int64_t kMinParallelElements = 1 << 14;

// Bytes of the operands, each once. Undefined (optional) tensors count nothing.
template <class... Tensors>
double operand_bytes(const Tensors&... tensors) {
  return (0.0 + ... + (tensors.defined() ? static_cast<double>(tensors.bytes()) : 0.0));
}

// What a CPU op needs beside its operands, there and where a CPU is imitated. GPUs have their own.
inline Tensor cpu_scratch(Stream& stream, int64_t bytes) {
  return stream.workspace({stream.imitates() == DeviceKind::kCuda ? 0 : bytes}, DType::kU8);
}

// Every defined operand lives where the stream computes.
template <class... Tensors>
void check_on(const Stream& stream, const Tensors&... tensors) {
  const auto check = [&](const Tensor& tensor) {
    SHOAL_CHECK(!tensor.defined() || tensor.device() == stream.device(), "the tensor is on {}, the stream on {}",
                name_of(tensor.device()), name_of(stream.device()));
  };
  (check(tensors), ...);
}

template <class... Tensors>
void check_dense(const Tensors&... tensors) {
  const auto check = [](const Tensor& tensor) {
    SHOAL_CHECK(!tensor.defined() || tensor.contiguous(), "{} has rows {} elements apart, expected dense rows",
                tensor.shape(), tensor.row_stride());
  };
  (check(tensors), ...);
}

inline void check_matrix(const char* name, const Tensor& tensor, int64_t rows, int64_t columns) {
  SHOAL_CHECK(tensor.dims() == 2 && tensor.size(0) == rows && tensor.size(1) == columns, "{} is {}, expected [{}, {}]",
              name, tensor.shape(), rows, columns);
}

// Expert e owns rows [offsets[e], offsets[e + 1]).
inline void check_offsets(std::span<const int64_t> offsets, int64_t rows) {
  SHOAL_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == rows,
              "expert offsets run from {} to {}, expected 0 to {} rows", offsets.empty() ? 0 : offsets.front(),
              offsets.empty() ? 0 : offsets.back(), rows);
  for (size_t e = 1; e < offsets.size(); ++e) {
    SHOAL_CHECK(offsets[e - 1] <= offsets[e], "expert {} begins at row {} and ends at row {}", e - 1, offsets[e - 1],
                offsets[e]);
  }
}

inline void check_dtype(const Tensor& tensor, DType expected) {
  SHOAL_CHECK(tensor.dtype() == expected, "found {}, expected {}", name_of(tensor.dtype()), name_of(expected));
}

}  // namespace shoal
