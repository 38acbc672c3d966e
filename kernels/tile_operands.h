// kernels/tile_operands.h: operands of a tiled product, widened to f32 on their way into a tile.
//
// Every function reads `depth` steps of the summed index, of f32, bf16 or e4m3 storage.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/base/tensor.h"
#include "kernels/register_tile.h"

namespace shoal {

// Calls f(pointer to the first element) with the storage's type.
template <class F>
void with_elements(const Tensor& tensor, F&& f) {
  switch (tensor.dtype()) {
    case DType::kF32: return f(tensor.data<float>());
    case DType::kBF16: return f(tensor.data<bfloat16>());
    case DType::kE4M3: return f(tensor.data<float8_e4m3>());
    default: fail("no tiles of {}", name_of(tensor.dtype()));
  }
}

template <class T>
void widen(float* to, const T* from, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = load(from[i]);
}

// A [rows, depth] as dense rows, `to_stride` apart.
template <class T>
void widen_rows(float* to, int64_t to_stride, const T* from, int64_t stride, int64_t rows, int64_t depth) {
  for (int64_t i = 0; i < rows; ++i) widen(to + i * to_stride, from + i * stride, depth);
}

// Columns [0, rows) of `depth` rows, as register tiles of kTileRows: tile t holds [depth, kTileRows]. `line` has room
// for a row.
template <class T>
void interleave(float* to, float* line, const T* from, int64_t stride, int64_t rows, int64_t depth) {
  for (int64_t k = 0; k < depth; ++k) {
    widen(line, from + k * stride, rows);
    float* tile = to + k * kTileRows;
    for (int64_t begin = 0; begin < rows; begin += kTileRows, tile += depth * kTileRows) {
      const int64_t count = std::min<int64_t>(kTileRows, rows - begin);
      for (int64_t i = 0; i < count; ++i) tile[i] = line[begin + i];
    }
  }
}

// Columns [0, columns) of `depth` rows of B, as one panel of `width` columns with zeros behind.
template <int width, class To, class T>
void take_panel(To* to, const T* from, int64_t stride, int64_t columns, int64_t depth) {
  for (int64_t k = 0; k < depth; ++k, to += width, from += stride) {
    if (columns < width) std::fill_n(to, width, To());
    if constexpr (std::is_same_v<To, T>) {
      std::copy_n(from, columns, to);
    } else if (columns == width) {
#pragma omp simd
      for (int j = 0; j < width; ++j) to[j] = load(from[j]);
    } else {
      for (int64_t j = 0; j < columns; ++j) to[j] = load(from[j]);
    }
  }
}

}  // namespace shoal
