// kernels/topk_cpu.cpp: scores, choice, weights and their gradients; every token is computed alone, so results do not
// depend on how tokens are split over threads or ranks.
#include "kernels/topk_cpu.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/operands.h"
#include "kernels/vector_math.h"

namespace shoal {

namespace {

// Router tensors are f32 or f64.
template <class F>
void dispatch_scores(const Tensor& scores, F&& f) {
  if (scores.dtype() == DType::kF64) {
    f(double{});
  } else {
    f(float{});
  }
}

template <class A>
void softmax_row(A* scores, const A* logits, int64_t num_experts) {
  A max = std::numeric_limits<A>::lowest();
#pragma omp simd reduction(max : max)
  for (int64_t e = 0; e < num_experts; ++e) max = logits[e] > max ? logits[e] : max;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t e = 0; e < num_experts; ++e) {
    const A value = vector_exp(logits[e] - max);
    scores[e] = value;
    sum += value;
  }
  const A inverse = A{1} / sum;
#pragma omp simd
  for (int64_t e = 0; e < num_experts; ++e) scores[e] *= inverse;
}

// The best `capacity` values offered, best first; a tie keeps the earlier offer. The first `capacity` offers are always
// taken, so that even a row of NaN yields distinct experts.
template <class A>
class BestList {
 public:
  explicit BestList(int64_t capacity) : values_(static_cast<size_t>(capacity)), ids_(static_cast<size_t>(capacity)) {}

  void clear() { size_ = 0; }
  void offer(A value, int32_t id) {
    if (size_ == values_.size()) {
      if (!(value > values_.back())) return;
    } else {
      ++size_;
    }
    size_t at = size_ - 1;
    for (; at > 0 && value > values_[at - 1]; --at) {
      values_[at] = values_[at - 1];
      ids_[at] = ids_[at - 1];
    }
    values_[at] = value;
    ids_[at] = id;
  }
  size_t size() const { return size_; }
  A value(size_t rank) const { return values_[rank]; }
  int32_t id(size_t rank) const { return ids_[rank]; }

 private:
  std::vector<A> values_;
  std::vector<int32_t> ids_;
  size_t size_ = 0;
};

// One thread's choice of experts, token after token.
template <class A>
class Chooser {
 public:
  explicit Chooser(const RouterShape& shape)
      : shape_(shape),
        group_size_(shape.num_experts / shape.num_groups),
        biased_(static_cast<size_t>(shape.num_experts)),
        best_(shape.topk),
        best_groups_(shape.topk_groups),
        best_in_group_(2) {}

  void choose(int32_t* experts, const A* scores, const float* bias) {
    for (int64_t e = 0; e < shape_.num_experts; ++e) {
      biased_[static_cast<size_t>(e)] = scores[e] + (bias ? static_cast<A>(bias[e]) : A{0});
    }
    best_.clear();
    if (shape_.topk_groups == shape_.num_groups) {
      offer(0, shape_.num_experts);
    } else {
      best_groups_.clear();
      for (int64_t g = 0; g < shape_.num_groups; ++g) best_groups_.offer(group_score(g), static_cast<int32_t>(g));
      for (const int32_t group : ascending(best_groups_)) offer(group * group_size_, (group + 1) * group_size_);
    }
    const std::vector<int32_t>& chosen = ascending(best_);
    std::copy(chosen.begin(), chosen.end(), experts);
  }

 private:
  void offer(int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) best_.offer(biased_[static_cast<size_t>(e)], static_cast<int32_t>(e));
  }

  A group_score(int64_t group) {
    best_in_group_.clear();
    for (int64_t e = group * group_size_; e < (group + 1) * group_size_; ++e) {
      best_in_group_.offer(biased_[static_cast<size_t>(e)], static_cast<int32_t>(e));
    }
    const bool two = shape_.group_score == GroupScore::kTop2Sum && best_in_group_.size() == 2;
    return two ? best_in_group_.value(0) + best_in_group_.value(1) : best_in_group_.value(0);
  }

  const std::vector<int32_t>& ascending(const BestList<A>& list) {
    sorted_.clear();
    for (size_t rank = 0; rank < list.size(); ++rank) sorted_.push_back(list.id(rank));
    std::sort(sorted_.begin(), sorted_.end());
    return sorted_;
  }

  const RouterShape& shape_;
  int64_t group_size_;
  std::vector<A> biased_;
  BestList<A> best_, best_groups_, best_in_group_;
  std::vector<int32_t> sorted_;
};

// Choices may come from a file (replay): ascending ids of existing experts, or a sentence.
void check_experts(const Tensor& experts, int64_t num_experts) {
  const int32_t* id = experts.data<int32_t>();
  const int64_t topk = experts.size(1);
  for (int64_t i = 0; i < experts.numel(); ++i) {
    const bool ascending = i % topk == 0 || id[i - 1] < id[i];
    if (id[i] < 0 || id[i] >= num_experts || !ascending) {
      fail(
          "token {}, choice {}: expert {} where ids must ascend within 0 to {}; replayed routing must come from a "
          "model "
          "with the same experts",
          i / topk, i % topk, id[i], num_experts - 1);
    }
  }
}

// What a chosen score is divided by and multiplied with: weight = score * route_scale / divisor.
template <class A>
A weight_divisor(const A* scores, const int32_t* experts, const RouterShape& shape) {
  if (!shape.normalize) return 1;
  A sum = 0;
  for (int64_t j = 0; j < shape.topk; ++j) sum += scores[experts[j]];
  return sum + static_cast<A>(kTinySum);
}

// d_scores of one token: what the balance loss says, plus, for the chosen ones, with w_j = α s_j / D and D = Σ s +
// tiny, dL/ds_j = α / D * (dw_j - Σ_k dw_k s_k / D); without normalisation α dw_j.
template <class A>
void weight_gradient_row(A* d_scores, const A* d_weights, const A* scores, const int32_t* experts,
                         const RouterShape& shape) {
  const A divisor = weight_divisor(scores, experts, shape);
  const A factor = static_cast<A>(shape.route_scale) / divisor;
  A pull = 0;
  if (shape.normalize) {
    for (int64_t j = 0; j < shape.topk; ++j) pull += d_weights[j] * scores[experts[j]];
    pull /= divisor;
  }
  for (int64_t j = 0; j < shape.topk; ++j) d_scores[experts[j]] += factor * (d_weights[j] - pull);
}

// From the scores' gradient, in place, to the logits'.
template <class A>
void score_gradient_row(A* d, const A* scores, RouterScore score, int64_t num_experts) {
  if (score == RouterScore::kSigmoid) {
#pragma omp simd
    for (int64_t e = 0; e < num_experts; ++e) d[e] *= scores[e] * (A{1} - scores[e]);
    return;
  }
  A dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t e = 0; e < num_experts; ++e) dot += d[e] * scores[e];
#pragma omp simd
  for (int64_t e = 0; e < num_experts; ++e) d[e] = scores[e] * (d[e] - dot);
}

// One token of the balance loss: returns Σ_e f_e q_e with q_e = s_e / D, D = Σ s + tiny, and adds its gradient times
// `factor`: dq_i/ds_e = δ_ie / D - s_i / D².
template <class A>
double balance_row(A* d_scores, const A* scores, const std::vector<A>& f, double factor) {
  const int64_t num_experts = static_cast<int64_t>(f.size());
  const A* load_factor = f.data();
  A sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t e = 0; e < num_experts; ++e) {
    sum += scores[e];
    dot += load_factor[e] * scores[e];
  }
  const A divisor = sum + static_cast<A>(kTinySum);
  const A mean = dot / divisor;
  const A step = static_cast<A>(factor) / divisor;
#pragma omp simd
  for (int64_t e = 0; e < num_experts; ++e) d_scores[e] += step * (load_factor[e] - mean);
  return static_cast<double>(mean);
}

// f_e of one run from its counts and tokens on all ranks.
template <class A>
std::vector<A> load_factors(const int64_t* counts, int64_t tokens, const RouterShape& shape) {
  const int64_t choices = std::accumulate(counts, counts + shape.num_experts, int64_t{0});
  SHOAL_CHECK(choices == shape.topk * tokens, "a run of {} tokens has {} choices, expected {}: were they summed?",
              tokens, choices, shape.topk * tokens);
  std::vector<A> factors;
  const double balanced = static_cast<double>(choices) / static_cast<double>(shape.num_experts);
  for (int64_t e = 0; e < shape.num_experts; ++e) {
    factors.push_back(static_cast<A>(static_cast<double>(counts[e]) / balanced));
  }
  return factors;
}

}  // namespace

void router_scores_cpu(Tensor scores, const Tensor& logits, const RouterShape& shape) {
  const int64_t tokens = logits.size(0), num_experts = logits.size(1);
  dispatch_scores(scores, [&]<class A>(A) {
#pragma omp parallel for schedule(static) if (tokens * num_experts > kMinParallelElements)
    for (int64_t t = 0; t < tokens; ++t) {
      const A* from = logits.data<A>() + t * num_experts;
      A* to = scores.data<A>() + t * num_experts;
      if (shape.score == RouterScore::kSoftmax) {
        softmax_row(to, from, num_experts);
      } else {
#pragma omp simd
        for (int64_t e = 0; e < num_experts; ++e) to[e] = vector_sigmoid(from[e]);
      }
    }
  });
}

void router_choose_cpu(Tensor experts, const Tensor& scores, const Tensor& bias, const RouterShape& shape) {
  const int64_t tokens = scores.size(0), num_experts = scores.size(1);
  const float* biases = bias.defined() ? bias.data<float>() : nullptr;
  dispatch_scores(scores, [&]<class A>(A) {
#pragma omp parallel if (tokens * num_experts > kMinParallelElements)
    {
      Chooser<A> chooser(shape);
#pragma omp for schedule(static)
      for (int64_t t = 0; t < tokens; ++t) {
        chooser.choose(experts.data<int32_t>() + t * shape.topk, scores.data<A>() + t * num_experts, biases);
      }
    }
  });
}

void router_weights_cpu(Tensor weights, const Tensor& scores, const Tensor& experts, const RouterShape& shape) {
  check_experts(experts, shape.num_experts);
  dispatch_scores(scores, [&]<class A>(A) {
    for (int64_t t = 0; t < scores.size(0); ++t) {
      const A* from = scores.data<A>() + t * shape.num_experts;
      const int32_t* chosen = experts.data<int32_t>() + t * shape.topk;
      const A factor = static_cast<A>(shape.route_scale), divisor = weight_divisor(from, chosen, shape);
      A* to = weights.data<A>() + t * shape.topk;
      for (int64_t j = 0; j < shape.topk; ++j) to[j] = from[chosen[j]] / divisor * factor;
    }
  });
}

void router_backward_cpu(Tensor d_logits, const Tensor& d_weights, const Tensor& d_scores, const Tensor& scores,
                         const Tensor& experts, const RouterShape& shape) {
  check_experts(experts, shape.num_experts);
  const int64_t tokens = scores.size(0), num_experts = scores.size(1);
  dispatch_scores(scores, [&]<class A>(A) {
#pragma omp parallel for schedule(static) if (tokens * num_experts > kMinParallelElements)
    for (int64_t t = 0; t < tokens; ++t) {
      const A* s = scores.data<A>() + t * num_experts;
      A* d = d_logits.data<A>() + t * num_experts;
      if (d_scores.defined()) {
        std::copy_n(d_scores.data<A>() + t * num_experts, num_experts, d);
      } else {
        std::fill_n(d, num_experts, A{0});
      }
      weight_gradient_row(d, d_weights.data<A>() + t * shape.topk, s, experts.data<int32_t>() + t * shape.topk, shape);
      score_gradient_row(d, s, shape.score, num_experts);
    }
  });
}

void balance_counts_cpu(Tensor counts, const Tensor& experts, const std::vector<int64_t>& offsets,
                        const RouterShape& shape) {
  check_experts(experts, shape.num_experts);
  const int32_t* chosen = experts.data<int32_t>();
  std::fill_n(counts.data<int64_t>(), counts.numel(), int64_t{0});
  for (size_t run = 1; run < offsets.size(); ++run) {
    int64_t* count = counts.data<int64_t>() + static_cast<int64_t>(run - 1) * shape.num_experts;
    for (int64_t i = offsets[run - 1] * shape.topk; i < offsets[run] * shape.topk; ++i) ++count[chosen[i]];
  }
}

void balance_loss_cpu(Tensor loss, Tensor d_scores, Tensor token_losses, const Tensor& scores, const Tensor& counts,
                      const std::vector<int64_t>& offsets, const std::vector<int64_t>& run_tokens, double coefficient,
                      const RouterShape& shape) {
  double* per_token = token_losses.data<double>();
  dispatch_scores(scores, [&]<class A>(A) {
    double total = 0;
    for (size_t run = 1; run < offsets.size(); ++run) {
      const int64_t begin = offsets[run - 1], end = offsets[run];
      if (begin == end) continue;
      const int64_t tokens = run_tokens[run - 1];
      const double factor = coefficient / static_cast<double>(tokens);
      const int64_t* count = counts.data<int64_t>() + static_cast<int64_t>(run - 1) * shape.num_experts;
      const std::vector<A> f = load_factors<A>(count, tokens, shape);
#pragma omp parallel for schedule(static) if ((end - begin) * shape.num_experts > kMinParallelElements)
      for (int64_t t = begin; t < end; ++t) {
        per_token[t] = balance_row(d_scores.data<A>() + t * shape.num_experts, scores.data<A>() + t * shape.num_experts,
                                   f, factor);
      }
      double sum = 0;
      for (int64_t t = begin; t < end; ++t) sum += per_token[t];
      total += factor * sum;
    }
    loss.data<A>()[0] += static_cast<A>(total);
  });
}

}  // namespace shoal
