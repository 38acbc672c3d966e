// kernels/transpose_cuda.h: many small matrices transposed at once: FP8 codes and scales as tensor cores read them.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"

namespace shoal {

// to [width, to_stride] = from [rows, width]ᵀ; what lies behind `rows` in a row of `to` becomes zero. Strides are in
// elements, to_stride is at least `rows`; `to` and `from` are apart.
struct Transposition {
  const void* from = nullptr;
  void* to = nullptr;
  int32_t rows = 0, width = 0;
  int32_t from_stride = 0, to_stride = 0;
};
inline Transposition transposition(const TensorView& from, void* to, int64_t to_stride) {
  return {.from = from.data,
          .to = to,
          .rows = static_cast<int32_t>(from.rows),
          .width = static_cast<int32_t>(from.width),
          .from_stride = static_cast<int32_t>(from.row_stride),
          .to_stride = static_cast<int32_t>(to_stride)};
}

// Elements of 1 byte; 16 at a time where addresses and strides are multiples of 16.
void transpose_bytes_cuda(const char* op, std::span<const Transposition> all, CudaQueue queue);
// Elements of 4 bytes.
void transpose_words_cuda(const char* op, std::span<const Transposition> all, CudaQueue queue);

}  // namespace shoal
