// kernels/rope_cpu.cpp: the rotation of one row's heads, in place.
#include "kernels/rope_cpu.h"

#include <vector>

#include "kernels/operands.h"

namespace shoal {

namespace {

template <class T, class A>
void rotate_interleaved(T* x, const A* cos, const A* sin, int64_t pairs) {
#pragma omp simd
  for (int64_t i = 0; i < pairs; ++i) {
    const A a = load(x[2 * i]), b = load(x[2 * i + 1]);
    x[2 * i] = store<T>(a * cos[i] - b * sin[i]);
    x[2 * i + 1] = store<T>(a * sin[i] + b * cos[i]);
  }
}

template <class T, class A>
void rotate_half_split(T* x, const A* cos, const A* sin, int64_t pairs) {
#pragma omp simd
  for (int64_t i = 0; i < pairs; ++i) {
    const A a = load(x[i]), b = load(x[i + pairs]);
    x[i] = store<T>(a * cos[i] - b * sin[i]);
    x[i + pairs] = store<T>(a * sin[i] + b * cos[i]);
  }
}

void check_positions(const Tensor& positions, int64_t max_position) {
  const int32_t* p = positions.data<int32_t>();
  for (int64_t row = 0; row < positions.size(0); ++row) {
    if (p[row] < 0 || p[row] >= max_position) {
      fail(
          "row {} is at position {}, but the rotary table covers positions 0 to {}; raise the maximum sequence length "
          "or shorten the document",
          row, p[row], max_position - 1);
    }
  }
}

template <class T>
void rotate_rows(const Tensor& x, const Tensor& positions, const Tensor& table, const RopeShape& shape,
                 Arithmetic<T> sign) {
  using A = Arithmetic<T>;
  const int64_t rows = x.size(0), pairs = shape.dim / 2;
#pragma omp parallel if (rows * shape.heads * shape.dim > kMinParallelElements)
  {
    // The row's cosines and sines apart, so that the loops over heads read them densely.
    std::vector<A> cos(static_cast<size_t>(pairs)), sin(static_cast<size_t>(pairs));
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      const A* entry = table.data<A>() + positions.data<int32_t>()[row] * 2 * pairs;
      for (size_t i = 0; i < cos.size(); ++i) {
        cos[i] = entry[2 * i];
        sin[i] = sign * entry[2 * i + 1];
      }
      T* head = x.data<T>() + row * x.row_stride() + shape.begin;
      for (int64_t h = 0; h < shape.heads; ++h, head += shape.head_dim) {
        if (shape.layout == RopeLayout::kInterleaved) {
          rotate_interleaved(head, cos.data(), sin.data(), pairs);
        } else {
          rotate_half_split(head, cos.data(), sin.data(), pairs);
        }
      }
    }
  }
}

}  // namespace

void rope_cpu(Tensor x, const Tensor& positions, const Tensor& table, const RopeShape& shape, RopeDirection direction) {
  check_positions(positions, table.size(0));
  dispatch_floating(x.dtype(), [&]<class T>(T) {
    using A = Arithmetic<T>;
    rotate_rows<T>(x, positions, table, shape, direction == RopeDirection::kForward ? A{1} : A{-1});
  });
}

}  // namespace shoal
