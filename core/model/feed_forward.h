// core/model/feed_forward.h: what every feed-forward layer, dense or of experts, offers a block.
#pragma once

#include <variant>

#include "core/base/lane.h"
#include "core/model/microbatch.h"
#include "parallel/route_plan.h"

namespace shoal {

struct MlpSaved {
  Tensor x;        // [rows, hidden]
  Tensor gate_up;  // [rows, 2 * ffn]; the SwiGLU's output is recomputed in backward
};

struct RouterSaved {
  Tensor x;        // [rows, hidden] f32 (f64)
  Tensor scores;   // [rows, num_experts] f32 (f64)
  Tensor experts;  // [rows, topk] i32, ascending within a row
  // Without balance losses both are undefined.
  Tensor aux_loss;  // [1] f32 (f64) balance losses as they enter the step's loss
  Tensor d_scores;  // [rows, num_experts] their gradient
};

struct ExpertsSaved {
  Tensor x;        // [rows_routed, hidden] sorted by expert
  Tensor gate_up;  // [rows_routed, 2 * ffn]
};

struct MoeSaved {
  RouterSaved router;
  RoutePlan plan;
  ExpertsSaved experts;
  MlpSaved shared;
};

using FeedForwardSaved = std::variant<std::monostate, MlpSaved, MoeSaved>;

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  // x [rows, hidden], normalised → [rows, hidden].
  virtual Task<Tensor> forward(Tensor x, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) = 0;
  // d_out [rows, hidden] → d_x [rows, hidden]. Frees what `saved` holds.
  virtual Task<Tensor> backward(Tensor d_out, const Microbatch& batch, FeedForwardSaved& saved, Lane& lane) = 0;
};

}  // namespace shoal
