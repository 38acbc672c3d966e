// tests/plan/run_cost_test.cpp: hours, money, MFU, checkpoints and failures by hand.
#include "core/plan/run_cost.h"

#include <catch2/catch.hpp>

#include "core/config/load.h"
#include "core/config/load_cluster.h"

namespace shoal {

// The step that was published, 19.926 s, and what is published beside it.
TEST_CASE("DeepSeek-V3's published step gives its published hours, money and MFU") {
  Config config = load_config({"configs/models/deepseek_v3.textproto"}).config;
  config.mutable_train()->set_global_batch(15360);
  config.mutable_checkpoint()->set_every_steps(100);
  ClusterConfig cluster = load_cluster("configs/clusters/h800_2048.textproto").cluster;
  cluster.set_training_time(1);  // the step is as it was in the training
  StepPlan step;
  step.layout.num_ranks = 2048;
  step.step_s = 19.926;
  step.checkpoint_bytes_per_rank = 4'000'000'000;
  const RunCost cost = plan_run(config, cluster, step, 14.8e12);
  CHECK(cost.tokens_per_step == 15360.0 * 4096);
  CHECK(cost.gpu_hours_per_trillion_tokens == Approx(180e3).epsilon(0.002));
  CHECK(cost.gpu_hours == Approx(2664e3).epsilon(0.002));
  CHECK(cost.usd == Approx(5.328e6).epsilon(0.002));
  CHECK(cost.model_tflops_per_gpu == Approx(385).epsilon(0.005));
  CHECK(cost.mfu.causal == Approx(0.3894).epsilon(0.005));
  CHECK(cost.mfu.full_attention == Approx(0.4373).epsilon(0.005));
  CHECK(cost.mfu.causal_with_mtp == Approx(0.3894 * 260.64 / 250.45).epsilon(0.005));
  // 682,636,487,424 parameters with MTP, f32 master and moments; 2 GB/s a node; 40 GB/s to the host.
  CHECK(cost.checkpoint.bytes == Approx(12 * 682'636'487'424.0).epsilon(1e-6));
  CHECK(cost.checkpoint.write_s == Approx(12 * 682.636487424 / (2 * 256)).epsilon(1e-6));
  CHECK(cost.checkpoint.stall_s == Approx(0.1));
  CHECK(cost.job_mtbf_hours == Approx(50700 / 2048.0));
  CHECK(cost.configured.interval_s == Approx(1992.6));
}

TEST_CASE("a training takes longer than its steps: hours and money count that, tokens/s do not") {
  const Config config = load_config({"configs/models/deepseek_v3.textproto"}).config;
  ClusterConfig cluster = load_cluster("configs/clusters/h800_2048.textproto").cluster;
  StepPlan step;
  step.step_s = 10;
  cluster.set_training_time(1);
  const RunCost plain = plan_run(config, cluster, step, 1e12);
  cluster.set_training_time(1.5);
  const RunCost training = plan_run(config, cluster, step, 1e12);
  CHECK(training.tokens_per_s == plain.tokens_per_s);
  CHECK(training.mfu.causal == plain.mfu.causal);
  CHECK(training.hours == Approx(1.5 * plain.hours));
  CHECK(training.gpu_hours == Approx(1.5 * plain.gpu_hours));
  CHECK(training.gpu_hours_per_trillion_tokens == Approx(1.5 * plain.gpu_hours_per_trillion_tokens));
  CHECK(training.usd == Approx(1.5 * plain.usd));
}

TEST_CASE("Young's interval balances saving and losing") {
  // A save of 20 s, a failure every 10 h: sqrt(2 * 20 * 36000) = 1200 s.
  CHECK(best_checkpoint_interval_s(20, 36000) == Approx(1200));
  const CheckpointCost checkpoint{.bytes = 0, .write_s = 60, .stall_s = 20};
  const FailureCost cost = failure_cost(1200, checkpoint, 600, 36000);
  CHECK(cost.saving_share == Approx(1.0 / 60));
  CHECK(cost.lost_share == Approx((600.0 + 60 + 600) / 36000));
  for (const double other : {600.0, 2400.0}) {
    CHECK(failure_cost(other, checkpoint, 600, 36000).total_share() > cost.total_share());
  }
}

TEST_CASE("what is not known costs nothing and is told as nothing") {
  Config config = load_config({"configs/models/deepseek_v3.textproto"}).config;
  ClusterConfig cluster = load_cluster("configs/clusters/h800_2048.textproto").cluster;
  cluster.clear_storage();
  cluster.clear_reliability();
  cluster.clear_usd_per_gpu_hour();
  cluster.clear_training_time();
  StepPlan step;
  step.step_s = 1;
  config.mutable_train()->set_steps(7200);
  const RunCost cost = plan_run(config, cluster, step);
  CHECK(cost.hours == Approx(2));
  CHECK(cost.usd == 0);
  CHECK(cost.checkpoint.write_s == 0);
  CHECK(cost.job_mtbf_hours == 0);
  CHECK(cost.best.interval_s == 0);
}

}  // namespace shoal
