// core/plan/run_cost.cpp: a step's seconds times what a run has of them.
#include "core/plan/run_cost.h"

#include <algorithm>
#include <cmath>

#include "core/model/flops.h"

namespace shoal {

double best_checkpoint_interval_s(double stall_s, double mtbf_s) { return std::sqrt(2 * stall_s * mtbf_s); }

FailureCost failure_cost(double interval_s, const CheckpointCost& checkpoint, double restart_s, double mtbf_s) {
  return {.interval_s = interval_s,
          .saving_share = checkpoint.stall_s / interval_s,
          .lost_share = (interval_s / 2 + checkpoint.write_s + restart_s) / mtbf_s};
}

double usd_per_gpu_hour(const Config& config, const ClusterConfig& cluster) {
  return cluster.usd_per_gpu_hour() > 0 ? cluster.usd_per_gpu_hour() : config.run().usd_per_gpu_hour();
}

namespace {

constexpr double kGiga = 1e9, kTera = 1e12, kHour = 3600;

// Masters in f32 and two moments, once in the cluster; router biases are nothing beside them.
double checkpoint_bytes(const Config& config) {
  const ParameterCounts counts = count_parameters(config.model());
  const bool short_moments = config.precision().moments() == PrecisionConfig::MOMENTS_BF16;
  return static_cast<double>(counts.total + counts.mtp) * (short_moments ? 8 : 12);
}

CheckpointCost plan_checkpoint(const Config& config, const ClusterConfig& cluster, const StepPlan& step) {
  const StorageConfig& storage = cluster.storage();
  CheckpointCost cost{.bytes = checkpoint_bytes(config)};
  if (storage.write_gbyte_per_s() > 0) {
    cost.write_s = cost.bytes / (storage.write_gbyte_per_s() * kGiga * cluster.num_nodes());
  }
  const bool behind_training = config.checkpoint().asynchronous() && storage.host_copy_gbyte_per_s() > 0;
  cost.stall_s = behind_training
                     ? static_cast<double>(step.checkpoint_bytes_per_rank) / (storage.host_copy_gbyte_per_s() * kGiga)
                     : cost.write_s;
  return cost;
}

void add_failures(const Config& config, const ClusterConfig& cluster, const StepPlan& step, RunCost& cost) {
  const ReliabilityConfig& reliability = cluster.reliability();
  if (reliability.gpu_mtbf_hours() <= 0) return;
  cost.job_mtbf_hours = reliability.gpu_mtbf_hours() / step.layout.num_ranks;
  const double mtbf_s = cost.job_mtbf_hours * kHour, restart_s = reliability.restart_minutes() * 60;
  if (cost.checkpoint.stall_s > 0) {
    // One save must be through before the next begins.
    const double best_s = best_checkpoint_interval_s(cost.checkpoint.stall_s, mtbf_s);
    cost.best = failure_cost(std::max(best_s, cost.checkpoint.write_s), cost.checkpoint, restart_s, mtbf_s);
  }
  const double every_s = static_cast<double>(config.checkpoint().every_steps()) * step.step_s;
  if (every_s > 0) cost.configured = failure_cost(every_s, cost.checkpoint, restart_s, mtbf_s);
}

}  // namespace

RunCost plan_run(const Config& config, const ClusterConfig& cluster, const StepPlan& step, double tokens) {
  const int64_t seq_len = config.data().seq_len();
  const double ranks = step.layout.num_ranks;
  RunCost cost;
  cost.tokens_per_step = static_cast<double>(config.train().global_batch()) * static_cast<double>(seq_len);
  cost.steps = tokens > 0 ? tokens / cost.tokens_per_step : static_cast<double>(config.train().steps());
  cost.tokens = cost.steps * cost.tokens_per_step;
  cost.tokens_per_s = cost.tokens_per_step / step.step_s;
  cost.tokens_per_gpu_s = cost.tokens_per_s / ranks;
  const auto flops = [&](FlopConvention convention) { return flops_per_token(config.model(), seq_len, convention); };
  const auto utilisation = [&](FlopConvention convention) {
    return flops(convention) * cost.tokens_per_gpu_s / (cluster.gpu().bf16_tflops() * kTera);
  };
  cost.flops_per_token = flops({});
  cost.model_tflops_per_gpu = cost.flops_per_token * cost.tokens_per_gpu_s / kTera;
  cost.mfu = {.causal = utilisation({}),
              .full_attention = utilisation({.causal = false}),
              .causal_with_mtp = utilisation({.with_mtp = true}),
              .full_attention_with_mtp = utilisation({.causal = false, .with_mtp = true})};
  cost.training_time = cluster.training_time();
  cost.hours = cost.training_time * cost.steps * step.step_s / kHour;
  cost.gpu_hours = cost.hours * ranks;
  cost.gpu_hours_per_trillion_tokens = cost.training_time * 1e12 / cost.tokens_per_gpu_s / kHour;
  cost.usd = cost.gpu_hours * usd_per_gpu_hour(config, cluster);
  cost.usd_per_trillion_tokens = cost.gpu_hours_per_trillion_tokens * usd_per_gpu_hour(config, cluster);
  cost.checkpoint = plan_checkpoint(config, cluster, step);
  add_failures(config, cluster, step, cost);
  return cost;
}

}  // namespace shoal
