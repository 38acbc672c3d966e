// kernels/permute_rows_cpu.cpp: moved rows are copied as bytes; summed rows meet in a scratch row.
#include "kernels/permute_rows_cpu.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/operands.h"

namespace shoal {

namespace {

void check_index(const Tensor& index, int64_t num_rows) {
  const int32_t* row = index.data<int32_t>();
  for (int64_t i = 0; i < index.size(0); ++i) {
    SHOAL_CHECK(row[i] >= 0 && row[i] < num_rows, "index[{}] is {}, x has {} rows", i, row[i], num_rows);
  }
}

void check_first(const Tensor& first, int64_t num_indices) {
  const int32_t* begin = first.data<int32_t>();
  SHOAL_CHECK_EQ(begin[0], 0);
  for (int64_t i = 1; i < first.size(0); ++i) {
    SHOAL_CHECK(begin[i - 1] <= begin[i], "first[{}] is {} after {}", i, begin[i], begin[i - 1]);
  }
  SHOAL_CHECK_EQ(static_cast<int64_t>(begin[first.size(0) - 1]), num_indices);
}

template <class T, class A>
void sum_into(T* out, const T* base, A* sum, const T* x, const int32_t* begin, const int32_t* end, int64_t width) {
  std::fill_n(sum, width, A{0});
  for (const int32_t* row = begin; row < end; ++row) {
    const T* next = x + *row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) sum[i] += load(next[i]);
  }
  if (base == nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] = store<T>(sum[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] = store<T>(load(base[i]) + sum[i]);
  }
}

template <class T>
void sum_all(const Tensor& out, const Tensor& base, const Tensor& x, const int32_t* first, const int32_t* index) {
  const int64_t rows = out.size(0), width = out.size(1);
#pragma omp parallel if (rows * width > kMinParallelElements)
  {
    std::vector<Arithmetic<T>> sum(static_cast<size_t>(width));
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      sum_into(out.data<T>() + row * width, base.defined() ? base.data<T>() + row * width : nullptr, sum.data(),
               x.data<T>(), index + first[row], index + first[row + 1], width);
    }
  }
}

}  // namespace

void gather_rows_cpu(Tensor out, const Tensor& x, const Tensor& index) {
  check_index(index, x.size(0));
  const int64_t rows = out.size(0), row_bytes = out.size(1) * size_of(out.dtype());
  const int32_t* row = index.data<int32_t>();
#pragma omp parallel for schedule(static) if (out.numel() > kMinParallelElements)
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(out.raw() + i * row_bytes, x.raw() + row[i] * row_bytes, static_cast<size_t>(row_bytes));
  }
}

void sum_rows_cpu(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& index) {
  check_index(index, x.size(0));
  check_first(first, index.size(0));
  dispatch_floating(x.dtype(),
                    [&]<class T>(T) { sum_all<T>(out, base, x, first.data<int32_t>(), index.data<int32_t>()); });
}

}  // namespace shoal
