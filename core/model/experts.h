// core/model/experts.h: the routed experts this rank holds: one SwiGLU MLP each, on its own run of rows.
//
//   x  [rows_routed, hidden] sorted by expert → [rows_routed, hidden], each row already times its router weight
//
// Experts are split over the expert axis; ffn (gate and up alike) over expert_tensor, whose ranks' outputs, and
// gradients of row weights, are partial sums.
#pragma once

#include "core/model/feed_forward.h"
#include "core/model/model_context.h"

namespace shoal {

class Experts {
 public:
  Experts(const ModelContext& context, const std::string& prefix);

  Task<Tensor> forward(Tensor x, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const;

  // saved.gate_up once more, from saved.x.
  Task<void> refill(const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const;

  struct Gradients {
    Tensor d_x;            // [rows_routed, hidden]
    Tensor d_row_weights;  // [rows_routed] f32 (f64)
  };
  Task<Gradients> backward(Tensor d_out, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const;

 private:
  Tensor swiglu(const RoutePlan& plan, const ExpertsSaved& saved, Stream& stream) const;

  bool keep_inner_;
  ShardDim ffn_;  // of gate and of up
  int64_t hidden_;
  Parameter& gate_up_;  // [local_experts, 2 * ffn, hidden]
  Parameter& down_;     // [local_experts, hidden, ffn]
};

}  // namespace shoal
