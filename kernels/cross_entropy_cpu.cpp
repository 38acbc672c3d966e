// kernels/cross_entropy_cpu.cpp: softmax's statistics block by block (online), so that a row comes from memory once.
//
// The exponentials wait in a scratch row for the sum, so that each is computed once.
#include "kernels/cross_entropy_cpu.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/operands.h"
#include "kernels/vector_math.h"

namespace shoal {

namespace {

// Logits whose maximum and sum are taken together: they fit the first-level cache.
constexpr int64_t kBlock = 2048;

// One row's softmax: exp(logit - max of its block's prefix) and what turns them into probabilities.
template <class A>
class RowSoftmax {
 public:
  RowSoftmax(int64_t vocab, bool keep) : vocab_(vocab), keep_(keep) {
    if (!keep) return;
    exponentials_.resize(static_cast<size_t>(vocab));
    block_max_.resize(static_cast<size_t>((vocab + kBlock - 1) / kBlock));
  }

  void read(const A* logits) {
    max_ = std::numeric_limits<A>::lowest();  // not -Inf: -Inf minus -Inf would be NaN
    sum_ = 0;
    for (int64_t begin = 0; begin < vocab_; begin += kBlock) {
      const int64_t count = std::min(kBlock, vocab_ - begin);
      const A before = max_;
      max_ = larger(max_, logits + begin, count);
      sum_ *= std::exp(static_cast<double>(before - max_));
      if (keep_) {
        block_max_[static_cast<size_t>(begin / kBlock)] = max_;
        sum_ += sum_exponentials<true>(exponentials_.data() + begin, logits + begin, count);
      } else {
        sum_ += sum_exponentials<false>(nullptr, logits + begin, count);
      }
    }
  }

  double max() const { return static_cast<double>(max_); }
  double sum() const { return sum_; }  // of exp(logit - max())
  double loss(A logit) const { return std::log(sum_) + static_cast<double>(max_ - logit); }

  // scale * (softmax - onehot), rounded once.
  template <class D>
  void gradient(D* d_logits, int32_t target, double scale) const {
    for (int64_t begin = 0; begin < vocab_; begin += kBlock) {
      const int64_t end = std::min(vocab_, begin + kBlock);
      const A factor = block_factor(begin / kBlock, scale);
      const A* e = exponentials_.data();
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) d_logits[i] = store<D>(e[i] * factor);
    }
    const A at_target = exponentials_[static_cast<size_t>(target)] * block_factor(target / kBlock, scale);
    d_logits[target] = store<D>(at_target - static_cast<A>(scale));
  }

 private:
  static A larger(A max, const A* logits, int64_t count) {
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < count; ++i) max = logits[i] > max ? logits[i] : max;
    return max;
  }

  template <bool keep>
  double sum_exponentials(A* kept, const A* logits, int64_t count) const {
    const A max = max_;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) {
      const A e = vector_exp(logits[i] - max);
      if constexpr (keep) kept[i] = e;
      sum += e;
    }
    return static_cast<double>(sum);
  }

  A block_factor(int64_t block, double scale) const {
    const double late = std::exp(static_cast<double>(block_max_[static_cast<size_t>(block)] - max_));
    return static_cast<A>(scale * late / sum_);
  }

  int64_t vocab_;
  bool keep_;
  A max_ = 0;
  double sum_ = 0;
  std::vector<A> exponentials_;
  std::vector<A> block_max_;
};

void check_targets(const Tensor& targets, int64_t vocab) {
  const int32_t* target = targets.data<int32_t>();
  for (int64_t row = 0; row < targets.size(0); ++row) {
    if (target[row] < -1 || target[row] >= vocab) {
      fail(
          "row {} has target id {}, but the logits cover ids 0 to {} (-1: masked); the data was tokenized with another "
          "vocabulary: use its tokenizer or set the model's vocabulary to match",
          row, target[row], vocab - 1);
    }
  }
}

// The maximum, the sum and the target's logit of a row: what a rank says about its shard, in this order.
constexpr int64_t kStatistics = 3;

template <class A>
void take_statistics(const Tensor& statistics, const Tensor& logits, const int32_t* targets, VocabShard shard) {
  const int64_t rows = logits.size(0), columns = logits.size(1);
#pragma omp parallel if (rows * columns > kMinParallelElements)
  {
    RowSoftmax<A> softmax(columns, false);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      const A* from = logits.data<A>() + row * columns;
      const int64_t target = targets[row] - shard.first_id;
      double* to = statistics.data<double>() + row * kStatistics;
      softmax.read(from);
      to[0] = columns > 0 ? softmax.max() : std::numeric_limits<double>::lowest();
      to[1] = softmax.sum();
      to[2] = target >= 0 && target < columns ? static_cast<double>(from[target]) : 0;
    }
  }
}

// One row's statistics of the whole vocabulary, from the ranks' in rank order.
struct WholeRow {
  double max = std::numeric_limits<double>::lowest();
  double sum = 0;
  double target_logit = 0;

  WholeRow(const double* statistics, int64_t ranks, int64_t rank_stride) {
    for (int64_t rank = 0; rank < ranks; ++rank) max = std::max(max, statistics[rank * rank_stride]);
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const double* part = statistics + rank * rank_stride;
      sum += part[1] * std::exp(part[0] - max);
      target_logit += part[2];
    }
  }
  double loss() const { return std::log(sum) + (max - target_logit); }
};

// scale * (softmax - onehot) of the shard's columns; `target` counts from the shard's first id. d may replace x.
template <class A, class D>
void gradient_row(D* d, const A* x, int64_t columns, int64_t target, const WholeRow& whole, double scale) {
  const A max = static_cast<A>(whole.max), factor = static_cast<A>(scale / whole.sum);
  const bool holds_target = target >= 0 && target < columns;
  const A at_target = holds_target ? vector_exp(x[target] - max) * factor : A{0};
#pragma omp simd
  for (int64_t i = 0; i < columns; ++i) d[i] = store<D>(vector_exp(x[i] - max) * factor);
  if (holds_target) d[target] = store<D>(at_target - static_cast<A>(scale));
}

template <class A, class D>
void visit_split_rows(const Tensor& losses, const Tensor& d_logits, const Tensor& logits, const int32_t* targets,
                      const Tensor& statistics, VocabShard shard, double scale) {
  const int64_t rows = logits.size(0), columns = logits.size(1);
  D* gradients = d_logits.defined() ? d_logits.data<D>() : nullptr;
#pragma omp parallel for schedule(static) if (rows * columns > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    if (targets[row] < 0) {
      losses.data<A>()[row] = 0;
      if (gradients) std::fill_n(gradients + row * columns, columns, D{});
      continue;
    }
    const WholeRow whole(statistics.data<double>() + row * kStatistics, statistics.size(0), rows * kStatistics);
    losses.data<A>()[row] = static_cast<A>(whole.loss());
    if (gradients) {
      gradient_row(gradients + row * columns, logits.data<A>() + row * columns, columns, targets[row] - shard.first_id,
                   whole, scale);
    }
  }
}

template <class A, class D>
void visit_rows(const Tensor& losses, const Tensor& d_logits, const Tensor& logits, const int32_t* targets,
                double scale) {
  const int64_t rows = logits.size(0), vocab = logits.size(1);
  D* gradients = d_logits.defined() ? d_logits.data<D>() : nullptr;
#pragma omp parallel if (rows * vocab > kMinParallelElements)
  {
    RowSoftmax<A> softmax(vocab, gradients != nullptr);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      const A* from = logits.data<A>() + row * vocab;
      const int32_t target = targets[row];
      if (target < 0) {
        losses.data<A>()[row] = 0;
        if (gradients) std::fill_n(gradients + row * vocab, vocab, D{});
        continue;
      }
      softmax.read(from);
      losses.data<A>()[row] = static_cast<A>(softmax.loss(from[target]));
      if (gradients) softmax.gradient(gradients + row * vocab, target, scale);
    }
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

void cross_entropy_statistics_cpu(Tensor statistics, const Tensor& logits, const Tensor& targets, VocabShard shard) {
  check_targets(targets, shard.vocab);
  if (logits.dtype() == DType::kF64) {
    take_statistics<double>(statistics, logits, targets.data<int32_t>(), shard);
  } else {
    take_statistics<float>(statistics, logits, targets.data<int32_t>(), shard);
  }
}

void cross_entropy_from_statistics_cpu(Tensor losses, Tensor d_logits, const Tensor& logits, const Tensor& targets,
                                       const Tensor& statistics, VocabShard shard, double scale) {
  check_targets(targets, shard.vocab);
  const int32_t* target = targets.data<int32_t>();
  dispatch_floating(d_logits.defined() ? d_logits.dtype() : logits.dtype(), [&]<class D>(D) {
    if (logits.dtype() == DType::kF64) {
      visit_split_rows<double, D>(losses, d_logits, logits, target, statistics, shard, scale);
    } else {
      visit_split_rows<float, D>(losses, d_logits, logits, target, statistics, shard, scale);
    }
  });
}

}  // namespace shoal
