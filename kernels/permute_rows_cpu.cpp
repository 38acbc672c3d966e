// kernels/permute_rows_cpu.cpp: moved rows are copied as bytes; summed rows meet in scratch rows.
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

// List i is [first[i], first[i + 1]): the lists cover the `num_listed` entries in order.
void check_lists(const char* name, const Tensor& first, int64_t num_listed) {
  const int32_t* begin = first.data<int32_t>();
  SHOAL_CHECK(begin[0] == 0, "{}[0] is {}, expected 0", name, begin[0]);
  for (int64_t i = 1; i < first.size(0); ++i) {
    SHOAL_CHECK(begin[i - 1] <= begin[i], "{}[{}] is {} after {}", name, i, begin[i], begin[i - 1]);
  }
  SHOAL_CHECK(begin[first.size(0) - 1] == num_listed, "{} ends at {}, expected {}", name, begin[first.size(0) - 1],
              num_listed);
}

template <class T, class A>
void add_row(A* sum, const T* row, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) sum[i] += load(row[i]);
}

template <class T, class A>
void write_sum(T* out, const T* base, const A* sum, int64_t width) {
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
      std::fill(sum.begin(), sum.end(), Arithmetic<T>{0});
      for (int32_t j = first[row]; j < first[row + 1]; ++j) add_row(sum.data(), x.data<T>() + index[j] * width, width);
      write_sum(out.data<T>() + row * width, base.defined() ? base.data<T>() + row * width : nullptr, sum.data(),
                width);
    }
  }
}

template <class T>
void sum_all_nested(const Tensor& out, const Tensor& base, const Tensor& x, const int32_t* first, const int32_t* groups,
                    const int32_t* index) {
  using A = Arithmetic<T>;
  const int64_t rows = out.size(0), width = out.size(1);
#pragma omp parallel if (rows * width > kMinParallelElements)
  {
    std::vector<A> sum(static_cast<size_t>(width)), group_sum(static_cast<size_t>(width));
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      std::fill(sum.begin(), sum.end(), A{0});
      for (int32_t g = first[row]; g < first[row + 1]; ++g) {
        std::fill(group_sum.begin(), group_sum.end(), A{0});
        for (int32_t j = groups[g]; j < groups[g + 1]; ++j) {
          add_row(group_sum.data(), x.data<T>() + index[j] * width, width);
        }
        add_row(sum.data(), group_sum.data(), width);
      }
      write_sum(out.data<T>() + row * width, base.defined() ? base.data<T>() + row * width : nullptr, sum.data(),
                width);
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
  check_lists("first", first, index.size(0));
  dispatch_floating(x.dtype(),
                    [&]<class T>(T) { sum_all<T>(out, base, x, first.data<int32_t>(), index.data<int32_t>()); });
}

void sum_rows_nested_cpu(Tensor out, const Tensor& base, const Tensor& x, const Tensor& first, const Tensor& groups,
                         const Tensor& index) {
  check_index(index, x.size(0));
  check_lists("groups", groups, index.size(0));
  check_lists("first", first, groups.size(0) - 1);
  dispatch_floating(x.dtype(), [&]<class T>(T) {
    sum_all_nested<T>(out, base, x, first.data<int32_t>(), groups.data<int32_t>(), index.data<int32_t>());
  });
}

}  // namespace shoal
