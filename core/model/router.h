// core/model/router.h: which experts a token goes to, with which weight, and how the load is kept even.
//
//   logits = x Wᵀ in f32          [rows, num_experts]
//   scores = sigmoid or softmax   → choice by (score + bias), weights by score (kernels/topk.h)
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/model/feed_forward.h"
#include "core/model/linear.h"
#include "core/model/model_context.h"
#include "core/model/route_record.h"
#include "kernels/topk.h"

namespace shoal {

struct RouterChoice {
  Tensor experts;  // [rows, topk] i32
  Tensor weights;  // [rows, topk] f32 (f64)
};

class Router {
 public:
  // moe_layer counts MoE layers only, from 0: the key of a routing record.
  Router(const ModelContext& context, const std::string& prefix, int64_t moe_layer);

  // x [mine, hidden]: this rank's rows of the microbatch. When `saved` holds choices and their counts already
  // (recomputation), they stand: no choice, no record, no count.
  Task<RouterChoice> forward(Tensor x, const Microbatch& batch, RouterSaved& saved, Lane& lane);
  // d_weights [rows, topk] f32 (f64) → d_x [rows, hidden] in the compute dtype.
  Task<Tensor> backward(Tensor d_weights, DType compute, RouterSaved& saved, Lane& lane) const;

  const std::string& name() const { return name_; }
  bool has_bias() const { return bias_.defined(); }
  double bias_update_rate() const { return bias_update_rate_; }
  // [num_experts] f32, the same on every rank; zeros at first. Moved by the optimizer between steps (expert_bias.h).
  const Tensor& bias() const { return bias_; }

  // How many of this rank's rows chose each expert since clear_statistics().
  const std::vector<int64_t>& counts() const { return counts_; }
  void count(const std::vector<int64_t>& expert_counts);
  void clear_statistics();

  // The forced choice for this rank's rows of the batch: also what a simulated device goes on with.
  std::function<std::vector<int32_t>()> balanced_for(const Microbatch& batch) const;

  // Shared by all layers: where the choices of training steps are recorded or replayed. Without one, and outside
  // training, a router chooses by its scores (REPLAY and BALANCED too).
  void set_record(std::shared_ptr<RouteRecord> record) { record_ = std::move(record); }

 private:
  void choose(Tensor experts, const Tensor& scores, const Microbatch& batch, Stream& stream);
  Task<void> add_balance_losses(const Microbatch& batch, RouterSaved& saved, Lane& lane) const;
  Task<void> add_balance_loss(size_t index, std::vector<int64_t> offsets, double coefficient, int64_t total,
                              RouterSaved& saved, Lane& lane) const;

  TensorParallel tensor_;
  std::string name_;
  int64_t moe_layer_;
  RouterShape shape_;
  MoeConfig::Routing routing_;
  double sequence_balance_loss_;
  double batch_balance_loss_;
  double bias_update_rate_;
  Linear gate_;
  Tensor bias_;
  std::vector<int64_t> counts_;
  std::shared_ptr<RouteRecord> record_;
};

}  // namespace shoal
