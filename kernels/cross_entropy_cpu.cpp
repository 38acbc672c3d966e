// kernels/cross_entropy_cpu.cpp: softmax's statistics block by block (online), so that a row comes from memory once and
// the gradient finds it in the second-level cache.
#include "kernels/cross_entropy_cpu.h"

#include <algorithm>
#include <limits>

#include "kernels/operands.h"
#include "kernels/vector_math.h"

namespace shoal {

namespace {

// Logits whose maximum and sum are taken together: they fit the first-level cache.
constexpr int64_t kBlock = 2048;

template <class A>
struct RowStatistics {
  A max = std::numeric_limits<A>::lowest();  // not -Inf: -Inf minus -Inf would be NaN
  double sum = 0;                            // Σ exp(logit - max)
};

template <class A>
RowStatistics<A> row_statistics(const A* logits, int64_t vocab) {
  RowStatistics<A> row;
  for (int64_t begin = 0; begin < vocab; begin += kBlock) {
    const int64_t end = std::min(vocab, begin + kBlock);
    A max = row.max;
#pragma omp simd reduction(max : max)
    for (int64_t i = begin; i < end; ++i) max = logits[i] > max ? logits[i] : max;
    row.sum *= std::exp(static_cast<double>(row.max - max));
    row.max = max;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; ++i) sum += vector_exp(logits[i] - max);
    row.sum += static_cast<double>(sum);
  }
  return row;
}

// scale * (softmax - onehot), computed in A and rounded once. d_logits may be logits.
template <class D, class A>
void row_gradient(D* d_logits, const A* logits, int64_t vocab, int32_t target, const RowStatistics<A>& row,
                  double scale) {
  const A factor = static_cast<A>(scale / row.sum), max = row.max;
  const A at_target = vector_exp(logits[target] - max) * factor - static_cast<A>(scale);
#pragma omp simd
  for (int64_t i = 0; i < vocab; ++i) d_logits[i] = store<D>(vector_exp(logits[i] - max) * factor);
  d_logits[target] = store<D>(at_target);
}

void check_targets(const Tensor& targets, int64_t vocab) {
  const int32_t* target = targets.data<int32_t>();
  for (int64_t row = 0; row < targets.size(0); ++row) {
    if (target[row] < -1 || target[row] >= vocab) {
      fail("row {} has target id {}, but the logits cover ids 0 to {} (-1: masked); the data was tokenized with another "
           "vocabulary: use its tokenizer or set the model's vocabulary to match",
           row, target[row], vocab - 1);
    }
  }
}

template <class A, class D>
void visit_rows(const Tensor& losses, const Tensor& d_logits, const Tensor& logits, const int32_t* targets,
                double scale) {
  const int64_t rows = logits.size(0), vocab = logits.size(1);
  D* gradients = d_logits.defined() ? d_logits.data<D>() : nullptr;
#pragma omp parallel for schedule(static) if (rows * vocab > kMinParallelElements)
  for (int64_t r = 0; r < rows; ++r) {
    const A* from = logits.data<A>() + r * vocab;
    D* to = gradients ? gradients + r * vocab : nullptr;
    const int32_t target = targets[r];
    if (target < 0) {
      losses.data<A>()[r] = 0;
      if (to) std::fill_n(to, vocab, D{});
      continue;
    }
    const RowStatistics<A> row = row_statistics(from, vocab);
    losses.data<A>()[r] = static_cast<A>(std::log(row.sum) + static_cast<double>(row.max - from[target]));
    if (to) row_gradient(to, from, vocab, target, row, scale);
  }
}

}  // namespace

void cross_entropy_cpu(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets, double scale) {
  check_targets(targets, logits.size(1));
  const int32_t* target = targets.data<int32_t>();
  dispatch_floating(d_logits.defined() ? d_logits.dtype() : logits.dtype(), [&]<class D>(D) {
    if (logits.dtype() == DType::kF64) {
      visit_rows<double, D>(losses, d_logits, logits, target, scale);
    } else {
      visit_rows<float, D>(losses, d_logits, logits, target, scale);
    }
  });
}

}  // namespace shoal
