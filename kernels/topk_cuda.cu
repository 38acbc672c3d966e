// kernels/topk_cuda.cu: scores, choice, weights and their gradients: a warp for each token.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/topk_cuda.h"
#include "kernels/topk_warp.h"

namespace shoal {

namespace {

template <class A>
__global__ void scores_of_tokens(A* scores, const A* logits, int64_t tokens, int num_experts, RouterScore score) {
  const int64_t token = token_of_warp();
  if (token >= tokens) return;
  const A* const from = logits + token * num_experts;
  A* const to = scores + token * num_experts;
  if (score == RouterScore::kSigmoid) {
    for (int e = lane_of_thread(); e < num_experts; e += kWarp) to[e] = A{1} / (A{1} + exp(-from[e]));
    return;
  }
  A max = from[0];
  for (int e = lane_of_thread(); e < num_experts; e += kWarp) max = from[e] > max ? from[e] : max;
  max = warp_reduce<Max>(max);
  A sum = 0;
  for (int e = lane_of_thread(); e < num_experts; e += kWarp) {
    const A value = exp(from[e] - max);
    to[e] = value;
    sum += value;
  }
  const A inverse = A{1} / warp_reduce(sum);
  for (int e = lane_of_thread(); e < num_experts; e += kWarp) to[e] *= inverse;
}

// What one warp needs to choose, in shared memory.
template <class A>
struct ChoiceMemory {
  A* values;        // of the experts
  A* group_values;  // of the groups
  Place* experts;   // of each, where it stands
  Place* groups;

  static __host__ __device__ int64_t bytes(int num_experts, int num_groups) {
    const int64_t of_all = int64_t{num_experts + num_groups} * static_cast<int64_t>(sizeof(A) + sizeof(Place));
    return (of_all + 15) / 16 * 16;
  }
  __device__ ChoiceMemory(unsigned char* memory, int num_experts, int num_groups)
      : values(reinterpret_cast<A*>(memory)),
        group_values(values + num_experts),
        experts(reinterpret_cast<Place*>(group_values + num_groups)),
        groups(experts + num_experts) {}
};

struct Choice {
  int num_experts = 0, topk = 0, num_groups = 0, topk_groups = 0;
  bool sum_of_two = false;  // what ranks a group: its two best, or its best
};

// The experts of the best groups may be chosen.
template <class A>
__device__ void open_best_groups(const ChoiceMemory<A>& memory, const Choice& c) {
  const int group_size = c.num_experts / c.num_groups;
  for (int g = lane_of_thread(); g < c.num_groups; g += kWarp) {
    memory.group_values[g] = group_value(memory.values + g * group_size, group_size, c.sum_of_two);
    memory.groups[g] = Place::kOpen;
  }
  __syncwarp();
  choose_best(memory.groups, memory.group_values, c.num_groups, c.topk_groups);
  for (int e = lane_of_thread(); e < c.num_experts; e += kWarp) {
    memory.experts[e] = memory.groups[e / group_size] == Place::kChosen ? Place::kOpen : Place::kOut;
  }
}

template <class A>
__global__ void choose_for_tokens(int32_t* experts, const A* scores, const float* bias, int64_t tokens, Choice c) {
  SHOAL_DYNAMIC_SHARED(unsigned char, shared);
  const int64_t token = token_of_warp();
  if (token >= tokens) return;
  const int64_t warp = threadIdx.x / kWarp;
  const ChoiceMemory<A> memory(shared + warp * ChoiceMemory<A>::bytes(c.num_experts, c.num_groups), c.num_experts,
                               c.num_groups);
  for (int e = lane_of_thread(); e < c.num_experts; e += kWarp) {
    memory.values[e] = scores[token * c.num_experts + e] + (bias != nullptr ? static_cast<A>(bias[e]) : A{0});
    memory.experts[e] = Place::kOpen;
  }
  __syncwarp();
  if (c.topk_groups < c.num_groups) {
    open_best_groups(memory, c);
    __syncwarp();
  }
  choose_best(memory.experts, memory.values, c.num_experts, c.topk);
  write_chosen(experts + token * c.topk, memory.experts, c.num_experts);
}

// Ascending ids of existing experts: a replayed choice may come from a file.
__device__ __forceinline__ void require_expert(const int32_t* experts, int j, int num_experts) {
  require(experts[j] >= 0 && experts[j] < num_experts && (j == 0 || experts[j - 1] < experts[j]),
          "router: expert ids ascend within the model's experts");
}

// What a chosen score is divided by: weight = score * route_scale / divisor.
template <class A>
__device__ A weight_divisor(const A* scores, const int32_t* experts, int topk, bool normalize) {
  if (!normalize) return 1;
  A sum = 0;
  for (int j = 0; j < topk; ++j) sum += scores[experts[j]];
  return sum + static_cast<A>(kTinySum);
}

// A thread for each token.
template <class A>
__global__ void weights_of_tokens(A* weights, const A* scores, const int32_t* experts, int64_t tokens, int num_experts,
                                  int topk, bool normalize, A route_scale) {
  const int64_t token = index_of_thread();
  if (token >= tokens) return;
  const A* const from = scores + token * num_experts;
  const int32_t* const chosen = experts + token * topk;
  for (int j = 0; j < topk; ++j) require_expert(chosen, j, num_experts);
  const A divisor = weight_divisor(from, chosen, topk, normalize);
  for (int j = 0; j < topk; ++j) weights[token * topk + j] = from[chosen[j]] / divisor * route_scale;
}

template <class A>
struct Backward {
  A* d_logits = nullptr;
  const A* d_weights = nullptr;
  const A* d_scores = nullptr;  // null: 0
  const A* scores = nullptr;
  const int32_t* experts = nullptr;
  int64_t tokens = 0;
  int num_experts = 0, topk = 0;
  bool softmax = false, normalize = false;
  A route_scale = 0;
};

// d_scores of one token: what the balance loss says, plus, for the chosen ones, with w_j = α s_j / D and D = Σ s +
// tiny, dL/ds_j = α / D * (dw_j - Σ_k dw_k s_k / D); without normalisation α dw_j. Then the score's own derivative.
template <class A>
__global__ void backward_of_tokens(Backward<A> o) {
  const int64_t token = token_of_warp();
  if (token >= o.tokens) return;
  const A* const s = o.scores + token * o.num_experts;
  const A* const d_w = o.d_weights + token * o.topk;
  const int32_t* const chosen = o.experts + token * o.topk;
  A* const d = o.d_logits + token * o.num_experts;
  for (int j = 0; j < o.topk; ++j) require_expert(chosen, j, o.num_experts);
  const A divisor = weight_divisor(s, chosen, o.topk, o.normalize), factor = o.route_scale / divisor;
  A pull = 0;
  if (o.normalize) {
    for (int j = 0; j < o.topk; ++j) pull += d_w[j] * s[chosen[j]];
    pull /= divisor;
  }
  A dot = 0;
  for (int e = lane_of_thread(); e < o.num_experts; e += kWarp) {
    A d_score = o.d_scores != nullptr ? o.d_scores[token * o.num_experts + e] : A{0};
    for (int j = 0; j < o.topk; ++j) {
      if (chosen[j] == e) d_score += factor * (d_w[j] - pull);
    }
    dot += d_score * s[e];
    d[e] = o.softmax ? d_score : d_score * (s[e] * (A{1} - s[e]));
  }
  if (!o.softmax) return;
  dot = warp_reduce(dot);
  for (int e = lane_of_thread(); e < o.num_experts; e += kWarp) d[e] = s[e] * (d[e] - dot);
}

}  // namespace

void router_scores_cuda(const TensorView& scores, const TensorView& logits, const RouterShape& shape, CudaQueue queue) {
  dispatch_scores(scores, [&]<class A>(A) {
    launch_kernel("router.scores", scores_of_tokens<A>, grid_of_tokens(logits.rows), queue, scores.as<A>(),
                  logits.as<A>(), logits.rows, static_cast<int>(shape.num_experts), shape.score);
  });
}

void router_choose_cuda(const TensorView& experts, const TensorView& scores, const TensorView& bias,
                        const RouterShape& shape, CudaQueue queue) {
  const Choice choice{.num_experts = static_cast<int>(shape.num_experts),
                      .topk = static_cast<int>(shape.topk),
                      .num_groups = static_cast<int>(shape.num_groups),
                      .topk_groups = static_cast<int>(shape.topk_groups),
                      .sum_of_two = shape.group_score == GroupScore::kTop2Sum};
  dispatch_scores(scores, [&]<class A>(A) {
    const int64_t bytes_per_warp = ChoiceMemory<A>::bytes(choice.num_experts, choice.num_groups);
    constexpr int64_t kMostBytes = 48 << 10;
    const int64_t fitting = kMostBytes / bytes_per_warp;
    const int warps = fitting >= kTokensPerBlock ? kTokensPerBlock : fitting < 1 ? 1 : static_cast<int>(fitting);
    Grid grid = grid_of_tokens(scores.rows, warps);
    grid.shared_bytes = static_cast<size_t>(warps * bytes_per_warp);
    launch_kernel("router.choose", choose_for_tokens<A>, grid, queue, experts.as<int32_t>(), scores.as<A>(),
                  bias.as<float>(), scores.rows, choice);
  });
}

void router_weights_cuda(const TensorView& weights, const TensorView& scores, const TensorView& experts,
                         const RouterShape& shape, CudaQueue queue) {
  dispatch_scores(scores, [&]<class A>(A) {
    launch_kernel("router.weights", weights_of_tokens<A>, grid_of_threads(scores.rows), queue, weights.as<A>(),
                  scores.as<A>(), experts.as<int32_t>(), scores.rows, static_cast<int>(shape.num_experts),
                  static_cast<int>(shape.topk), shape.normalize, static_cast<A>(shape.route_scale));
  });
}

void router_backward_cuda(const TensorView& d_logits, const TensorView& d_weights, const TensorView& d_scores,
                          const TensorView& scores, const TensorView& experts, const RouterShape& shape,
                          CudaQueue queue) {
  dispatch_scores(scores, [&]<class A>(A) {
    const Backward<A> operands{.d_logits = d_logits.as<A>(),
                               .d_weights = d_weights.as<A>(),
                               .d_scores = d_scores.as<A>(),
                               .scores = scores.as<A>(),
                               .experts = experts.as<int32_t>(),
                               .tokens = scores.rows,
                               .num_experts = static_cast<int>(shape.num_experts),
                               .topk = static_cast<int>(shape.topk),
                               .softmax = shape.score == RouterScore::kSoftmax,
                               .normalize = shape.normalize,
                               .route_scale = static_cast<A>(shape.route_scale)};
    launch_kernel("router.backward", backward_of_tokens<A>, grid_of_tokens(scores.rows), queue, operands);
  });
}

}  // namespace shoal
