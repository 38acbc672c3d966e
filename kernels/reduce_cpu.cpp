// kernels/reduce_cpu.cpp: chunks of fixed size are summed apart, in f64, then in order.
#include "kernels/reduce_cpu.h"

#include <algorithm>

#include "kernels/operands.h"
#include "kernels/reduce.h"

namespace shoal {

namespace {

enum class Term { kValue, kSquare };

template <Term term, class T>
void sum_chunks(double* partial, const T* x, int64_t numel) {
  const int64_t num_chunks = (numel + kSumChunk - 1) / kSumChunk;
#pragma omp parallel for schedule(static) if (numel > kMinParallelElements)
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
    const int64_t end = std::min(numel, (chunk + 1) * kSumChunk);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = chunk * kSumChunk; i < end; ++i) {
      const double value = x[i];
      sum += term == Term::kSquare ? value * value : value;
    }
    partial[chunk] = sum;
  }
}

template <Term term>
void sum_chunks(const Tensor& partial, const Tensor& x) {
  if (x.dtype() == DType::kF64) {
    sum_chunks<term>(partial.data<double>(), x.data<double>(), x.numel());
  } else {
    sum_chunks<term>(partial.data<double>(), x.data<float>(), x.numel());
  }
}

}  // namespace

void sum_of_squares_cpu(Tensor partial, const Tensor& x) { sum_chunks<Term::kSquare>(partial, x); }

void sum_cpu(Tensor total, Tensor partial, const Tensor& x) {
  sum_chunks<Term::kValue>(partial, x);
  double sum = 0;
  for (int64_t chunk = 0; chunk < partial.numel(); ++chunk) sum += partial.data<double>()[chunk];
  total.data<double>()[0] = sum;
}

}  // namespace shoal
