// core/plan/plan.cpp: step and run, side by side.
#include "core/plan/plan.h"

namespace shoal {

namespace {

std::string source_of_seconds(const ClusterConfig& cluster) {
  if (!cluster.has_measured()) return fmt::format("the efficiencies of cluster '{}'", cluster.name());
  const MeasuredOps& measured = cluster.measured();
  return fmt::format("ops measured with model '{}' on {} rank(s), {} thread(s) each, {}", measured.model(),
                     measured.num_ranks(), measured.threads_per_rank(), measured.device());
}

}  // namespace

Plan make_plan(const Config& config, const ClusterConfig& cluster, double tokens) {
  StagePlays plays(cluster);
  return make_plan(config, cluster, tokens, plays);
}

Plan make_plan(const Config& config, const ClusterConfig& cluster, double tokens, StagePlays& plays) {
  Plan plan;
  plan.model = config.model().name();
  plan.cluster = cluster.name();
  plan.gpu = cluster.gpu().name();
  plan.bf16_tflops = cluster.gpu().bf16_tflops();
  plan.has_mtp = config.model().mtp().depth() > 0;
  plan.has_price = usd_per_gpu_hour(config, cluster) > 0;
  plan.load_imbalance = cluster.load_imbalance();
  plan.efficiency_source = source_of_seconds(cluster);
  plan.step = plan_step(config, cluster, plays);
  plan.run = plan_run(config, cluster, plan.step, tokens);
  return plan;
}

}  // namespace shoal
