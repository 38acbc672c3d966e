// kernels/attention_backward_cpu.cpp: attention's backward: probabilities are computed again from log_sum_exp.
//
//   P = exp(S - log_sum_exp)      dV = Pᵀ dO      dP = dO Vᵀ      dS = P ∘ (dP - D), D = rowsum(dO ∘ O)
//   dQ = scale dS K               dK = dSᵀ (scale Q)
#include <cmath>

#include "kernels/attention_block.h"
#include "kernels/attention_cpu.h"
#include "kernels/vector_math.h"

namespace shoal {

namespace {

// Blocks of keys outside, blocks of queries inside: dK and dV of a block are complete when it is left, dQ of the whole
// head waits in scratch.
template <class T>
class BackwardUnit {
 public:
  using A = Arithmetic<T>;

  // `shared`: [heads, tokens, qk + v] for the heads' own dK and dV when several share a kv head.
  BackwardUnit(const AttentionCall& call, A* scratch, A* shared)
      : call_(call),
        qk_(call.shape.qk_dim),
        v_(call.shape.v_dim),
        qk_stride_(panels<A>(qk_)),
        v_stride_(panels<A>(v_)),
        shared_(shared),
        scratch_(scratch) {
    const int64_t rows = longest_document(call.offsets);
    queries_ = scratch_.take(rows * qk_stride_);
    d_out_ = scratch_.take(rows * v_stride_);
    d_queries_ = scratch_.take(rows * qk_stride_);
    out_dots_ = scratch_.take(rows);
    keys_ = scratch_.take(kBlock * qk_stride_);
    keys_transposed_ = scratch_.take(kBlock * qk_);
    values_transposed_ = scratch_.take(kBlock * v_);
    probabilities_ = scratch_.take(kBlock * kBlock);
    d_scores_ = scratch_.take(kBlock * kBlock);
    d_keys_ = scratch_.take(kBlock * qk_stride_);
    d_values_ = scratch_.take(kBlock * v_stride_);
  }
  int64_t scratch_numel() const { return scratch_.used(); }

  void run(const AttentionUnit& unit) {
    take_queries(unit);
    for (int64_t keys = 0; keys < blocks(unit.length); ++keys) {
      take_keys(unit, keys);
      for (int64_t block = keys; block < blocks(unit.length); ++block) run_block(unit, block, block == keys);
      leave_keys(unit, keys);
    }
    leave_rows(call_.d_q.data<T>() + unit.begin * call_.d_q.row_stride() + unit.head * qk_, call_.d_q.row_stride(),
               d_queries_, qk_stride_, unit.length, qk_, static_cast<A>(call_.shape.scale));
  }

 private:
  static const T* at(const Tensor& tensor, int64_t row, int64_t column) {
    return tensor.data<T>() + row * tensor.row_stride() + column;
  }

  void take_queries(const AttentionUnit& unit) {
    const int64_t length = unit.length;
    take_rows(queries_, qk_stride_, at(call_.q, unit.begin, unit.head * qk_), call_.q.row_stride(), length, qk_, length,
              static_cast<A>(call_.shape.scale));
    take_rows(d_out_, v_stride_, at(call_.d_out, unit.begin, unit.head * v_), call_.d_out.row_stride(), length, v_,
              length);
    std::fill_n(d_queries_, length * qk_stride_, A{0});
    for (int64_t i = 0; i < length; ++i) {
      const T* out = at(call_.out, unit.begin + i, unit.head * v_);
      const A* d_out = d_out_ + i * v_stride_;
      A dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t j = 0; j < v_; ++j) dot += d_out[j] * static_cast<A>(load(out[j]));
      out_dots_[i] = dot;
    }
  }

  void take_keys(const AttentionUnit& unit, int64_t block) {
    const int64_t first = block * kBlock, count = std::min(kBlock, unit.length - first), row = unit.begin + first;
    const T* keys = at(call_.k, row, unit.kv_head * qk_);
    take_rows(keys_, qk_stride_, keys, call_.k.row_stride(), count, qk_, kBlock);
    take_transposed(keys_transposed_, keys, call_.k.row_stride(), count, qk_);
    take_transposed(values_transposed_, at(call_.v, row, unit.kv_head * v_), call_.v.row_stride(), count, v_);
    std::fill_n(d_keys_, kBlock * qk_stride_, A{0});
    std::fill_n(d_values_, kBlock * v_stride_, A{0});
  }

  void run_block(const AttentionUnit& unit, int64_t block, bool diagonal) {
    const int64_t first = block * kBlock, count = std::min(kBlock, unit.length - first);
    const A* queries = queries_ + first * qk_stride_;
    const A* d_out = d_out_ + first * v_stride_;
    const Causal columns = diagonal ? Causal::kColumns : Causal::kAll;
    const Causal depth_begin = diagonal ? Causal::kDepthBegin : Causal::kAll;
    block_product<Sums::kAlongRows, Start::kZero>(probabilities_, kBlock, queries, qk_stride_, keys_transposed_, kBlock,
                                                  count, kBlock, qk_, columns);
    block_product<Sums::kAlongRows, Start::kZero>(d_scores_, kBlock, d_out, v_stride_, values_transposed_, kBlock,
                                                  count, kBlock, v_, columns);
    const A* log_sum_exp =
        call_.log_sum_exp.data<A>() + unit.head * call_.log_sum_exp.row_stride() + unit.begin + first;
    for (int64_t i = 0; i < count; ++i) {
      softmax_gradient_row(i, diagonal ? i + 1 : kBlock, log_sum_exp[i], out_dots_[first + i]);
    }
    block_product<Sums::kAcrossRows, Start::kAdd>(d_values_, v_stride_, probabilities_, kBlock, d_out, v_stride_,
                                                  kBlock, v_stride_, count, depth_begin);
    block_product<Sums::kAcrossRows, Start::kAdd>(d_keys_, qk_stride_, d_scores_, kBlock, queries, qk_stride_, kBlock,
                                                  qk_stride_, count, depth_begin);
    block_product<Sums::kAlongRows, Start::kAdd>(d_queries_ + first * qk_stride_, qk_stride_, d_scores_, kBlock, keys_,
                                                 qk_stride_, count, qk_stride_, kBlock,
                                                 diagonal ? Causal::kDepthEnd : Causal::kAll);
  }

  void softmax_gradient_row(int64_t i, int64_t visible, A log_sum_exp, A out_dot) {
    A* p = probabilities_ + i * kBlock;
    A* d = d_scores_ + i * kBlock;
#pragma omp simd
    for (int64_t j = 0; j < visible; ++j) {
      const A probability = vector_exp(p[j] - log_sum_exp);
      p[j] = probability;
      d[j] = probability * (d[j] - out_dot);
    }
    std::fill(p + visible, p + kBlock, A{0});
    std::fill(d + visible, d + kBlock, A{0});
  }

  void leave_keys(const AttentionUnit& unit, int64_t block) {
    const int64_t first = block * kBlock, count = std::min(kBlock, unit.length - first), row = unit.begin + first;
    if (shared_ == nullptr) {
      leave_rows(call_.d_k.data<T>() + row * call_.d_k.row_stride() + unit.kv_head * qk_, call_.d_k.row_stride(),
                 d_keys_, qk_stride_, count, qk_);
      leave_rows(call_.d_v.data<T>() + row * call_.d_v.row_stride() + unit.kv_head * v_, call_.d_v.row_stride(),
                 d_values_, v_stride_, count, v_);
      return;
    }
    A* to = shared_ + (unit.head * call_.q.size(0) + row) * (qk_ + v_);
    leave_rows(to, qk_ + v_, d_keys_, qk_stride_, count, qk_);
    leave_rows(to + qk_, qk_ + v_, d_values_, v_stride_, count, v_);
  }

  const AttentionCall& call_;
  int64_t qk_, v_, qk_stride_, v_stride_;
  A* shared_;
  Scratch<A> scratch_;
  A *queries_, *d_out_, *d_queries_, *out_dots_, *keys_, *keys_transposed_, *values_transposed_, *probabilities_,
      *d_scores_, *d_keys_, *d_values_;
};

int64_t shared_numel(const AttentionCall& call) {
  const AttentionShape& s = call.shape;
  return s.heads == s.kv_heads ? 0 : s.heads * call.q.size(0) * (s.qk_dim + s.v_dim);
}

// d_k and d_v: the sum over the query heads of each kv head, in head order.
template <class T, class A>
void add_heads(const AttentionCall& call, const A* shared) {
  const AttentionShape& s = call.shape;
  const int64_t tokens = call.q.size(0), group = s.heads / s.kv_heads, width = s.qk_dim + s.v_dim;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < tokens; ++row) {
    T* d_k = call.d_k.data<T>() + row * call.d_k.row_stride();
    T* d_v = call.d_v.data<T>() + row * call.d_v.row_stride();
    for (int64_t kv_head = 0; kv_head < s.kv_heads; ++kv_head) {
      const A* first = shared + (kv_head * group * tokens + row) * width;
      for (int64_t j = 0; j < width; ++j) {
        A sum = first[j];
        for (int64_t head = 1; head < group; ++head) sum += first[head * tokens * width + j];
        T& to = j < s.qk_dim ? d_k[kv_head * s.qk_dim + j] : d_v[kv_head * s.v_dim + j - s.qk_dim];
        to = store<T>(sum);
      }
    }
  }
}

}  // namespace

int64_t attention_backward_scratch_bytes(const AttentionCall& call) {
  return dispatch_floating(call.q.dtype(), [&]<class T>(T) {
    const int64_t numel = BackwardUnit<T>(call, nullptr, nullptr).scratch_numel();
    return (numel * attention_threads(attention_units(call).size()) + shared_numel(call)) *
           static_cast<int64_t>(sizeof(Arithmetic<T>));
  });
}

void attention_backward_cpu(const AttentionCall& call, std::byte* scratch) {
  const std::vector<AttentionUnit> units = attention_units(call);
  dispatch_floating(call.q.dtype(), [&]<class T>(T) {
    using A = Arithmetic<T>;
    const int64_t numel = BackwardUnit<T>(call, nullptr, nullptr).scratch_numel();
    const int threads = attention_threads(units.size());
    A* const own = reinterpret_cast<A*>(scratch);
    A* const shared = shared_numel(call) > 0 ? own + threads * numel : nullptr;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      BackwardUnit<T> backward(call, own + omp_get_thread_num() * numel, shared);
#pragma omp for schedule(dynamic)
      for (size_t i = 0; i < units.size(); ++i) backward.run(units[i]);
    }
    if (shared != nullptr) add_heads<T>(call, shared);
  });
}

}  // namespace shoal
