// core/train/train_step.h: one optimizer step, from microbatches to new weights. Every call is Collective.
//
//   forwards and backwards by the schedule → gradients reduce-scattered → global norm, clip → AdamW on the shards →
//   weights gathered (awaited by the next reader of each) → router biases moved
//
// Losses are summed over microbatches in global order, gradients too with parallel.gradient_reduction EACH_MICROBATCH.
#pragma once

#include <vector>

#include "core/config/config.pb.h"
#include "core/train/model_runtime.h"
#include "optim/adamw_optimizer.h"

namespace shoal {

struct StepInput {
  int64_t step = 1;  // 1-based
  double lr = 0;
  int64_t scored_tokens = 0;   // unmasked targets in this rank's microbatches
  double mtp_loss_weight = 0;  // of the mean loss of multi-token prediction
  std::vector<Microbatch> microbatches;
};

struct StepOutcome {
  double loss = 0;            // mean over the step's unmasked tokens, all ranks
  double mtp_loss = 0;        // the same of multi-token prediction, mean over depths, unweighted
  double aux_loss = 0;        // balance losses as they enter the gradient
  int64_t scored_tokens = 0;  // all ranks
  double grad_norm = 0;
  double clip_factor = 1;
  bool update_skipped = false;          // gradients were not finite: weights, moments and biases are as before
  double max_violation = 0;             // worst MoE layer
  std::vector<double> quantize_counts;  // of this rank; ModelRuntime::take_quantize_counts
  double exposed_comm_s = 0;            // this rank waited for the wire, and for slower ranks, in this step
  WireSeconds exposed_by_kind{};        // their sum is exposed_comm_s
};

class TrainStep {
 public:
  // Draws the initial weights and masters from config.run.seed.
  TrainStep(ModelRuntime& runtime, const Config& config);

  StepOutcome run(StepInput input);

 private:
  // A microbatch's share of the step's losses.
  struct Losses {
    double tokens = 0;  // Σ token losses, in nats
    double aux = 0;     // of this rank's rows
    double mtp = 0;     // Σ over depths of their share of mtp_loss
  };

  Task<void> set_loss_scales(StepInput& input, StepOutcome& outcome);
  void run_schedule(const StepInput& input, StepOutcome& outcome);
  Task<void> forward(const Microbatch& batch, TransformerSaved& saved, Losses& losses);
  Task<void> begin_round(bool in_forward);
  void end_round();
  Task<void> reduce_losses(const std::vector<Losses>& mine, StepOutcome& outcome);
  void update_weights(const StepInput& input, StepOutcome& outcome);
  void balance(StepOutcome& outcome);

  ModelRuntime& runtime_;
  const ProcessMesh& mesh_;
  OptimConfig config_;
  bool reduces_each_microbatch_;
  int64_t check_replicas_every_;  // steps; 0: never
  AdamwOptimizer optimizer_;
};

}  // namespace shoal
