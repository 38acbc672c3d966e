// kernels/attention_cpu.cpp: attention's forward: online softmax over blocks of keys.
#include "kernels/attention_cpu.h"

#include <cmath>
#include <limits>

#include "kernels/attention_block.h"
#include "kernels/vector_math.h"

namespace shoal {

namespace {

template <class T>
class ForwardUnit {
 public:
  using A = Arithmetic<T>;

  ForwardUnit(const AttentionCall& call, A* scratch)
      : call_(call), qk_(call.shape.qk_dim), v_(call.shape.v_dim), v_stride_(panels<A>(v_)), scratch_(scratch) {
    const int64_t rows = blocks(longest_document(call.offsets)) * kBlock;
    keys_ = scratch_.take(rows * qk_);
    values_ = scratch_.take(rows * v_stride_);
    queries_ = scratch_.take(kBlock * qk_);
    scores_ = scratch_.take(kBlock * kBlock);
    sums_ = scratch_.take(kBlock * v_stride_);
    max_ = scratch_.take(kBlock);
    total_ = scratch_.take(kBlock);
  }
  int64_t scratch_numel() const { return scratch_.used(); }

  void run(const AttentionUnit& unit) {
    const int64_t num_blocks = blocks(unit.length);
    for (int64_t block = 0; block < num_blocks; ++block) take_keys(unit, block);
    for (int64_t block = 0; block < num_blocks; ++block) run_queries(unit, block);
  }

 private:
  // keys_: each block transposed, [qk, kBlock]; values_: [rows, v].
  void take_keys(const AttentionUnit& unit, int64_t block) {
    const int64_t first = block * kBlock, count = std::min(kBlock, unit.length - first), row = unit.begin + first;
    const Tensor &k = call_.k, &v = call_.v;
    take_transposed(keys_ + first * qk_, k.data<T>() + row * k.row_stride() + unit.kv_head * qk_, k.row_stride(), count,
                    qk_);
    take_rows(values_ + first * v_stride_, v_stride_, v.data<T>() + row * v.row_stride() + unit.kv_head * v_,
              v.row_stride(), count, v_, kBlock);
  }

  void run_queries(const AttentionUnit& unit, int64_t block) {
    const int64_t first = block * kBlock, count = std::min(kBlock, unit.length - first), row = unit.begin + first;
    const Tensor& q = call_.q;
    take_rows(queries_, qk_, q.data<T>() + row * q.row_stride() + unit.head * qk_, q.row_stride(), count, qk_, count,
              static_cast<A>(call_.shape.scale));
    std::fill_n(sums_, count * v_stride_, A{0});
    std::fill_n(max_, count, std::numeric_limits<A>::lowest());  // not -Inf: -Inf minus -Inf would be NaN
    std::fill_n(total_, count, A{0});
    for (int64_t keys = 0; keys <= block; ++keys) {
      const bool diagonal = keys == block;
      block_product<Sums::kAlongRows, Start::kZero>(scores_, kBlock, queries_, qk_, keys_ + keys * kBlock * qk_, kBlock,
                                                    count, kBlock, qk_, diagonal ? Causal::kColumns : Causal::kAll);
      for (int64_t i = 0; i < count; ++i) softmax_row(i, diagonal ? i + 1 : kBlock);
      block_product<Sums::kAlongRows, Start::kAdd>(sums_, v_stride_, scores_, kBlock,
                                                   values_ + keys * kBlock * v_stride_, v_stride_, count, v_stride_,
                                                   kBlock, diagonal ? Causal::kDepthEnd : Causal::kAll);
    }
    T* out = call_.out.data<T>() + row * call_.out.row_stride() + unit.head * v_;
    A* log_sum_exp = call_.log_sum_exp.data<A>() + unit.head * call_.log_sum_exp.row_stride() + row;
    for (int64_t i = 0; i < count; ++i) {
      leave_rows(out + i * call_.out.row_stride(), 0, sums_ + i * v_stride_, 0, 1, v_, A{1} / total_[i]);
      log_sum_exp[i] = max_[i] + std::log(total_[i]);
    }
  }

  // Scores to probabilities relative to the greatest score so far; what was summed before shrinks to match.
  void softmax_row(int64_t i, int64_t visible) {
    A* row = scores_ + i * kBlock;
    A max = max_[i];
#pragma omp simd reduction(max : max)
    for (int64_t j = 0; j < visible; ++j) max = row[j] > max ? row[j] : max;
    A total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < visible; ++j) {
      const A p = vector_exp(row[j] - max);
      row[j] = p;
      total += p;
    }
    std::fill(row + visible, row + kBlock, A{0});
    if (max > max_[i]) {
      const A shrink = vector_exp(max_[i] - max);
      total_[i] *= shrink;
      A* sums = sums_ + i * v_stride_;
#pragma omp simd
      for (int64_t j = 0; j < v_stride_; ++j) sums[j] *= shrink;
      max_[i] = max;
    }
    total_[i] += total;
  }

  const AttentionCall& call_;
  int64_t qk_, v_, v_stride_;
  Scratch<A> scratch_;
  A *keys_, *values_, *queries_, *scores_, *sums_, *max_, *total_;
};

}  // namespace

int64_t attention_forward_scratch_bytes(const AttentionCall& call) {
  return dispatch_floating(call.q.dtype(), [&]<class T>(T) {
    const int64_t numel = ForwardUnit<T>(call, nullptr).scratch_numel();
    return numel * static_cast<int64_t>(sizeof(Arithmetic<T>)) * attention_threads(attention_units(call).size());
  });
}

void attention_forward_cpu(const AttentionCall& call, std::byte* scratch) {
  const std::vector<AttentionUnit> units = attention_units(call);
  dispatch_floating(call.q.dtype(), [&]<class T>(T) {
    using A = Arithmetic<T>;
    const int64_t numel = ForwardUnit<T>(call, nullptr).scratch_numel();
    const int threads = attention_threads(units.size());
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      ForwardUnit<T> forward(call, reinterpret_cast<A*>(scratch) + omp_get_thread_num() * numel);
#pragma omp for schedule(dynamic)
      for (size_t i = 0; i < units.size(); ++i) forward.run(units[i]);
    }
  });
}

double attention_pairs(int64_t length, DType dtype) {
  const int64_t panel = dtype == DType::kF64 ? kPanelOf<double> : kPanelOf<float>;
  double pairs = 0;
  for (int64_t first = 0; first < length; first += kBlock) {
    const int64_t count = std::min(kBlock, length - first);
    for (int64_t i = 0; i < count; i += kTileRows) {
      const int64_t rows = std::min<int64_t>(kTileRows, count - i);
      const int64_t diagonal = std::min(kBlock, (i + rows + panel - 1) / panel * panel);
      pairs += static_cast<double>(rows) * static_cast<double>(first + diagonal);
    }
  }
  return pairs;
}

}  // namespace shoal
