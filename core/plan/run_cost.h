// core/plan/run_cost.h: what a run takes: hours, money, checkpoints, and what failures cost it.
#pragma once

#include "core/plan/step_plan.h"

namespace shoal {

// Model FLOPs over what the GPUs could do, by convention. The peak is always that of bf16, also where FP8 multiplies.
struct Mfu {
  double causal = 0;          // half of the attention matrix, without multi-token prediction
  double full_attention = 0;  // all of it
  double causal_with_mtp = 0;
  double full_attention_with_mtp = 0;
};

struct CheckpointCost {
  double bytes = 0;    // of all ranks: masters and moments
  double write_s = 0;  // 0: not known
  double stall_s = 0;  // of training; 0: not known
};

// What failures take of a run that saves every `interval_s` seconds.
struct FailureCost {
  double interval_s = 0;
  double saving_share = 0;  // of the time: training that stands while it saves
  double lost_share = 0;    // of the time: work done again, restarts
  double total_share() const { return saving_share + lost_share; }
};

struct RunCost {
  double tokens_per_step = 0, steps = 0, tokens = 0;
  double tokens_per_s = 0, tokens_per_gpu_s = 0;
  double flops_per_token = 0;  // forward and backward, causal, without multi-token prediction
  double model_tflops_per_gpu = 0;
  Mfu mfu;
  double training_time = 1;                                            // the cluster's: what follows counts it
  double hours = 0, gpu_hours = 0, gpu_hours_per_trillion_tokens = 0;  // without failures
  double usd = 0, usd_per_trillion_tokens = 0;                         // likewise; 0: no price known
  CheckpointCost checkpoint;
  double job_mtbf_hours = 0;  // of all GPUs together; 0: nothing fails
  FailureCost best;           // at the interval that costs least
  FailureCost configured;     // at checkpoint.every_steps; zeros where that is 0
};

// `tokens`: of the run; 0: by train.steps.
RunCost plan_run(const Config& config, const ClusterConfig& cluster, const StepPlan& step, double tokens = 0);

// The cluster's price, else that of run.usd_per_gpu_hour; 0: none known.
double usd_per_gpu_hour(const Config& config, const ClusterConfig& cluster);

// Young's interval, sqrt(2 * stall * mtbf): saving more often costs more than it saves. (Young 1974, Daly 2006)
double best_checkpoint_interval_s(double stall_s, double mtbf_s);
// With a failure every mtbf_s, half an interval, what was being written, and the restart are lost.
FailureCost failure_cost(double interval_s, const CheckpointCost& checkpoint, double restart_s, double mtbf_s);

}  // namespace shoal
