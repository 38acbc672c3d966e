// kernels/topk_cuda.cu: scores, choice, weights and their gradients: a warp for each token.
#include <bit>

#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/swiglu_math_cuda.h"
#include "kernels/topk_cuda.h"
#include "kernels/topk_keys_cuda.h"
#include "kernels/topk_warp.h"

namespace shoal {

namespace {

// Runs of all tokens' logits: a score of its own for each.
template <bool kAligned, class A>
__global__ void sigmoid_scores(A* scores, const A* logits, int64_t count) {
  const int64_t at = index_of_thread() * kRunLength;
  if (at >= count) return;
  Run<A> values = {};
  load_run<kAligned>(values, logits + at, count - at);
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) values[i] = device_sigmoid(values[i]);
  store_run<kAligned>(scores + at, values, count - at);
}

template <class A>
__global__ void softmax_scores(A* scores, const A* logits, int64_t tokens, int num_experts) {
  const int64_t token = token_of_warp();
  if (token >= tokens) return;
  const A* const from = logits + token * num_experts;
  A* const to = scores + token * num_experts;
  A max = from[0];
#pragma unroll 4
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
//
// A lane looks after a chosen one, 32 of them at a time, and adds to its score's gradient in shared memory. Sums over
// the chosen are in the order of weight_divisor, on every lane.

// Of one token: `d_scores` in shared memory, complete when it returns.
template <class A>
__device__ __forceinline__ void add_through_weights(A* d_scores, const Backward<A>& o, int64_t token) {
  const int lane = lane_of_thread();
  const A* const s = o.scores + token * o.num_experts;
  const A* const d_w = o.d_weights + token * o.topk;
  const int32_t* const chosen = o.experts + token * o.topk;
  A sum = 0, pull = 0;
  for (int begin = 0; begin < o.topk; begin += kWarp) {
    const int j = begin + lane, count = o.topk - begin < kWarp ? o.topk - begin : kWarp;
    if (j < o.topk) require_expert(chosen, j, o.num_experts);
    const A score = j < o.topk ? s[chosen[j]] : A{0}, product = j < o.topk ? d_w[j] * score : A{0};
    if (!o.normalize) continue;
    for (int i = 0; i < count; ++i) {
      sum += __shfl_sync(0xFFFFFFFFu, score, i);
      pull += __shfl_sync(0xFFFFFFFFu, product, i);
    }
  }
  const A divisor = o.normalize ? sum + static_cast<A>(kTinySum) : A{1}, factor = o.route_scale / divisor;
  pull = o.normalize ? pull / divisor : A{0};
  __syncwarp();
  for (int j = lane; j < o.topk; j += kWarp) d_scores[chosen[j]] += factor * (d_w[j] - pull);
  __syncwarp();
}

template <class A>
__global__ void backward_of_tokens(Backward<A> o) {
  SHOAL_DYNAMIC_SHARED(A, shared);
  const int64_t token = token_of_warp();
  if (token >= o.tokens) return;
  const int lane = lane_of_thread();
  A* const d_scores = shared + static_cast<int>(threadIdx.x) / kWarp * o.num_experts;
  const A* const s = o.scores + token * o.num_experts;
  A* const d = o.d_logits + token * o.num_experts;
#pragma unroll 4
  for (int e = lane; e < o.num_experts; e += kWarp) {
    d_scores[e] = o.d_scores != nullptr ? o.d_scores[token * o.num_experts + e] : A{0};
  }
  add_through_weights(d_scores, o, token);
  if (!o.softmax) {
#pragma unroll 4
    for (int e = lane; e < o.num_experts; e += kWarp) d[e] = d_scores[e] * (s[e] * (A{1} - s[e]));
    return;
  }
  A dot = 0;
#pragma unroll 4
  for (int e = lane; e < o.num_experts; e += kWarp) dot += d_scores[e] * s[e];
  dot = warp_reduce(dot);
#pragma unroll 4
  for (int e = lane; e < o.num_experts; e += kWarp) d[e] = s[e] * (d_scores[e] - dot);
}

// The same where a lane has kQuads times four experts, in accesses of 16 bytes: a token's scores are on their way
// before anything else is asked for.
template <int kQuads>
__global__ void backward_of_tokens_by_quads(Backward<float> o) {
  SHOAL_DYNAMIC_SHARED(float, shared);
  const int64_t token = token_of_warp();
  if (token >= o.tokens) return;
  const int lane = lane_of_thread(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t first = token * o.num_experts + lane * 4;
  float* const d_scores = shared + warp * o.num_experts;
  float4 s[kQuads], d[kQuads];
#pragma unroll
  for (int q = 0; q < kQuads; ++q) s[q] = *reinterpret_cast<const float4*>(o.scores + first + q * 4 * kWarp);
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const bool has_some = o.d_scores != nullptr;
    d[q] = has_some ? *reinterpret_cast<const float4*>(o.d_scores + first + q * 4 * kWarp) : float4{0, 0, 0, 0};
    reinterpret_cast<float4*>(d_scores)[q * kWarp + lane] = d[q];
  }
  add_through_weights(d_scores, o, token);
  float dot = 0;
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    d[q] = reinterpret_cast<const float4*>(d_scores)[q * kWarp + lane];
    dot += d[q].x * s[q].x + d[q].y * s[q].y + d[q].z * s[q].z + d[q].w * s[q].w;
  }
  if (o.softmax) dot = warp_reduce(dot);
  const auto through_score = [&](float gradient, float score) {
    return o.softmax ? score * (gradient - dot) : gradient * (score * (1.0f - score));
  };
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    *reinterpret_cast<float4*>(o.d_logits + first + q * 4 * kWarp) = {
        through_score(d[q].x, s[q].x), through_score(d[q].y, s[q].y), through_score(d[q].z, s[q].z),
        through_score(d[q].w, s[q].w)};
  }
}

// Null: experts are no whole number of quads for each lane, or too many.
using BackwardByQuads = void (*)(Backward<float>);
BackwardByQuads backward_by_quads(int64_t num_experts) {
  switch (num_experts) {
    case 4 * kWarp: return backward_of_tokens_by_quads<1>;
    case 8 * kWarp: return backward_of_tokens_by_quads<2>;
    case 12 * kWarp: return backward_of_tokens_by_quads<3>;
    case 16 * kWarp: return backward_of_tokens_by_quads<4>;
    default: return nullptr;
  }
}

// A warp for each token, with shared memory for each.
Grid grid_of_warps_with(int64_t tokens, int64_t bytes_per_warp) {
  constexpr int64_t kMostBytes = 48 << 10;
  const int64_t fitting = kMostBytes / bytes_per_warp;
  const int warps = fitting >= kTokensPerBlock ? kTokensPerBlock : fitting < 1 ? 1 : static_cast<int>(fitting);
  Grid grid = grid_of_tokens(tokens, warps);
  grid.shared_bytes = static_cast<size_t>(warps * bytes_per_warp);
  return grid;
}

// Calls f(kernel, groups) with the choice in registers; false: there are more experts than fit, or groups end within a
// lane's experts.
template <class F>
bool with_key_kernel(const Choice& c, bool aligned, F&& f) {
  const bool grouped = c.topk_groups < c.num_groups;
  const int group_size = c.num_experts / c.num_groups;
  const auto fits = [&]<int kCount>(std::integral_constant<int, kCount>) {
    if (c.num_experts > kCount * kWarp) return false;
    const int lanes = group_size / kCount;
    if (grouped && (group_size % kCount != 0 || !std::has_single_bit(static_cast<unsigned>(lanes)))) return false;
    const bool whole = aligned && c.num_experts == kCount * kWarp;
    if (grouped) {
      f(whole ? choose_by_keys<kCount, true, true> : choose_by_keys<kCount, false, true>,
        KeyGroups{lanes, c.num_groups, c.topk_groups, c.sum_of_two});
    } else {
      f(whole ? choose_by_keys<kCount, true, false> : choose_by_keys<kCount, false, false>, KeyGroups{});
    }
    return true;
  };
  return fits(std::integral_constant<int, 1>{}) || fits(std::integral_constant<int, 2>{}) ||
         fits(std::integral_constant<int, 4>{}) || fits(std::integral_constant<int, 8>{}) ||
         fits(std::integral_constant<int, 16>{});
}

}  // namespace

void router_scores_cuda(const TensorView& scores, const TensorView& logits, const RouterShape& shape, CudaQueue queue) {
  constexpr const char* kOp = "router.scores";
  dispatch_scores(scores, [&]<class A>(A) {
    if (shape.score == RouterScore::kSigmoid) {
      const int64_t count = logits.rows * shape.num_experts;
      launch_kernel(kOp, all_aligned(scores, logits) ? sigmoid_scores<true, A> : sigmoid_scores<false, A>,
                    grid_of_threads(ceil_div(count, kRunLength)), queue, scores.as<A>(), logits.as<A>(), count);
      return;
    }
    launch_kernel(kOp, softmax_scores<A>, grid_of_tokens(logits.rows), queue, scores.as<A>(), logits.as<A>(),
                  logits.rows, static_cast<int>(shape.num_experts));
  });
}

void router_choose_cuda(const TensorView& experts, const TensorView& scores, const TensorView& bias,
                        const RouterShape& shape, CudaQueue queue) {
  constexpr const char* kOp = "router.choose";
  const Choice choice{.num_experts = static_cast<int>(shape.num_experts),
                      .topk = static_cast<int>(shape.topk),
                      .num_groups = static_cast<int>(shape.num_groups),
                      .topk_groups = static_cast<int>(shape.topk_groups),
                      .sum_of_two = shape.group_score == GroupScore::kTop2Sum};
  if (scores.dtype == DType::kF32 &&
      with_key_kernel(choice, is_aligned(scores) && is_aligned(bias), [&](auto kernel, const KeyGroups& groups) {
        launch_kernel(kOp, kernel, grid_of_tokens(scores.rows), queue, experts.as<int32_t>(), scores.as<float>(),
                      bias.as<float>(), scores.rows, choice.num_experts, choice.topk, groups);
      })) {
    return;
  }
  dispatch_scores(scores, [&]<class A>(A) {
    const int64_t bytes_per_warp = ChoiceMemory<A>::bytes(choice.num_experts, choice.num_groups);
    const Grid grid = grid_of_warps_with(scores.rows, bytes_per_warp);
    launch_kernel(kOp, choose_for_tokens<A>, grid, queue, experts.as<int32_t>(), scores.as<A>(), bias.as<float>(),
                  scores.rows, choice);
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
    const Grid grid = grid_of_warps_with(scores.rows, shape.num_experts * static_cast<int64_t>(sizeof(A)));
    auto kernel = backward_of_tokens<A>;
    if constexpr (std::is_same_v<A, float>) {
      const BackwardByQuads by_quads = backward_by_quads(shape.num_experts);
      if (by_quads != nullptr && all_aligned(d_logits, d_scores, scores)) kernel = by_quads;
    }
    launch_kernel("router.backward", kernel, grid, queue, operands);
  });
}

}  // namespace shoal
