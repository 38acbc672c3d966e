// core/train/train_step.h: one optimizer step, from microbatches to new weights. Every call is Collective.
//
//   forwards and backwards by the schedule → gradients reduce-scattered → global norm, clip → router biases moved →
//   AdamW on the shards → weights gathered (awaited by the next reader of each)
//
// Losses are summed over microbatches in global order, gradients too with parallel.gradient_reduction EACH_MICROBATCH.
#pragma once

#include <functional>
#include <vector>

#include "core/config/config.pb.h"
#include "core/train/fault_detector.h"
#include "core/train/model_runtime.h"
#include "core/train/schedule.h"
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
  StepVerdict verdict;  // of the judge; but for kUpdate, weights, moments and biases are as before
  bool update_skipped() const { return verdict.action != StepVerdict::Action::kUpdate; }
  double max_violation = 0;                       // worst MoE layer
  std::vector<std::vector<int64_t>> expert_load;  // tokens of all ranks that chose each expert, by MoE layer
  std::vector<double> quantize_counts;            // of this rank; ModelRuntime::take_quantize_counts
  // This rank waited for the wire, and for slower ranks, with nothing to compute, in this step; by kind of transfer.
  WireSeconds exposed_by_kind{};
  double exposed_comm_s = 0;  // their sum
  double compute_s = 0;       // in ops (time_account.h)
};

class TrainStep {
 public:
  // Draws the initial weights and masters from config.run.seed. parallel.overlap is not AUTO (resolve_overlap).
  TrainStep(ModelRuntime& runtime, const Config& config);

  StepOutcome run(StepInput input);
  AdamwOptimizer& optimizer() { return optimizer_; }
  // Decides, by a step's loss and gradient norm and alike on every rank, whether it updates. Without one, what is not
  // finite is skipped.
  using Judge = std::function<StepVerdict(double loss, double grad_norm)>;
  void set_judge(Judge judge) { judge_ = std::move(judge); }
  // Hears of every set of actions that ran together, when it is through.
  using Observer = std::function<void(const std::vector<Action>& together)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }
  // From the next step on; every schedule trains alike. Not AUTO; OFF with EACH_MICROBATCH.
  void set_overlap(ParallelConfig::Overlap::Schedule overlap) { overlap_ = overlap; }

 private:
  // A microbatch's share of the step's losses, on the device until the step's microbatches are through.
  struct Losses {
    int64_t rows = 0;
    Tensor tokens;                   // [1] f64: Σ token losses, in nats; undefined: another tensor rank counts them
    std::vector<Tensor> aux;         // [1] each: of this rank's rows
    std::vector<Tensor> mtp;         // [1] f64 a depth: Σ token losses
    std::vector<double> mtp_scales;  // their share of mtp_loss
  };
  struct LossSums {
    double tokens = 0, aux = 0, mtp = 0;
  };

  Task<void> set_loss_scales(StepInput& input, StepOutcome& outcome);
  void run_schedule(const StepInput& input);
  Task<void> start(const Action& action, const StepInput& input);
  Task<void> forward(const Microbatch& batch, TransformerSaved& saved, Losses& losses, Lane& lane);
  LossSums read_losses(const Losses& losses) const;
  void queue_reductions(size_t first_parameter);
  Task<void> begin_round(bool in_forward);
  void end_round();
  Task<void> reduce_losses(const std::vector<Losses>& mine, StepOutcome& outcome);
  void update(const StepInput& input, StepOutcome& outcome);
  void balance(StepOutcome& outcome);

  ModelRuntime& runtime_;
  const ProcessMesh& mesh_;
  OptimConfig config_;
  ParallelConfig::Overlap::Schedule overlap_;
  bool has_wires_;  // in its layers
  bool reduces_each_microbatch_;
  int64_t check_replicas_every_;  // steps; 0: never
  AdamwOptimizer optimizer_;
  Judge judge_;
  Observer observer_;
  // Of the step that runs:
  std::vector<TransformerSaved> saved_;
  std::vector<Losses> losses_;
  size_t buckets_unreduced_ = 0;  // the first so many buckets' gradients are not queued yet
  int64_t wire_points_seen_ = 0;
};

}  // namespace shoal
