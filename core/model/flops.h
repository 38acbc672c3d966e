// core/model/flops.h: parameters and FLOPs of a model in closed form, from its config alone.
#pragma once

#include <cstdint>

#include "core/config/config.pb.h"

namespace shoal {

// Exact counts. Router selection biases, which no gradient moves, are counted as published models count them.
struct ParameterCounts {
  int64_t total = 0;                     // without MTP
  int64_t active = 0;                    // that a token meets: all but the routed experts it is not sent to
  int64_t active_without_embedding = 0;  // the same without the look-up; a tied matrix stays in, as the head
  int64_t embedding = 0;                 // vocab * hidden
  int64_t head = 0;                      // 0 when tied
  int64_t router_biases = 0;             // part of total and active
  int64_t mtp = 0;                       // what MTP adds; its embedding and head are the model's own
};
// The config must be validated (core/config/validate.h): sizes are trusted.
ParameterCounts count_parameters(const ModelConfig& model);

// Which FLOPs are counted. Printed beside every MFU.
struct FlopConvention {
  bool causal = true;     // half of the attention matrix, as the mask leaves it; otherwise all of it
  bool with_mtp = false;  // MTP blocks, their projections and heads
};

// FLOPs of forward and backward (3 forwards) per token, in sequences of seq_len:
//
//   3 * (2 * active_matmul + layers * 2 * heads * (qk_dim + v_dim) * seq_len * (causal ? 1/2 : 1))
//
// active_matmul: weights that multiply a token: attention projections, MLP or topk + shared experts with their router,
// head. Left out: embedding look-up, norms, RoPE, softmax, SwiGLU's product, recomputation, optimizer. An MTP module
// adds one block, its 2 * hidden → hidden projection and a head.
double flops_per_token(const ModelConfig& model, int64_t seq_len, FlopConvention convention);

}  // namespace shoal
