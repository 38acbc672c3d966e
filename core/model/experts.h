// core/model/experts.h: the routed experts this rank holds: one SwiGLU MLP each, on its own run of rows.
//
//   x  [rows_routed, hidden] sorted by expert → [rows_routed, hidden], each row already times its router weight
//
// Experts are split over the expert axis; ffn (gate and up alike) over expert_tensor, whose ranks' outputs, and
// gradients of row weights, are partial sums.
#pragma once

#include "core/model/feed_forward.h"
#include "core/model/model_context.h"
#include "core/model/swiglu_pair.h"

namespace shoal {

class Experts {
 public:
  Experts(const ModelContext& context, const std::string& prefix);

  Task<Tensor> forward(RoutedRows x, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const;

  // saved.swiglu once more, from saved.x.
  Task<void> refill(const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const;

  struct Gradients {
    Tensor d_x;            // [rows_routed, hidden]
    Tensor d_row_weights;  // [rows_routed] f32 (f64)
  };
  Task<Gradients> backward(RoutedRows d_out, const RoutePlan& plan, ExpertsSaved& saved, Lane& lane) const;

 private:
  Tensor multiply(const Parameter& weight, const LinearInput& x, const RoutePlan& plan, Stream& stream) const;
  Task<Tensor> project_up(const RoutePlan& plan, const ExpertsSaved& saved, Lane& lane) const;
  void backward_plain(Gradients& gradients, Tensor gate_up, Tensor inner, Tensor d_out, Tensor x, const RoutePlan& plan,
                      Lane& lane) const;
  void backward_fp8(Gradients& gradients, Tensor gate_up, LinearInput inner, QuantizedRows d_out, QuantizedRows x,
                    const RoutePlan& plan, Lane& lane) const;
  // Rows quantised at home, as the weight gradient reads them.
  QuantizedColumns retile(const QuantizedRows& rows, QuantizeOptions options, const std::vector<int64_t>& offsets,
                          Stream& stream) const;

  DType compute_;
  ShardDim ffn_;  // of gate and of up
  int64_t hidden_;
  LinearFormat format_;
  SwigluPair swiglu_;
  Parameter& gate_up_;  // [local_experts, 2 * ffn, hidden]
  Parameter& down_;     // [local_experts, hidden, ffn]
};

}  // namespace shoal
