// tests/plan/step_plan_test.cpp: a planned step is the simulated step; stages together are the whole network.
#include "core/plan/step_plan.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"
#include "core/model/flops.h"
#include "parallel/simulated_communicator.h"
#include "tests/plan/tiny_cluster.h"
#include "tests/train/even_speeds.h"

using Catch::Matchers::Contains;
using Overlap = shoal::ParallelConfig::Overlap;
using Pipeline = shoal::ParallelConfig::Pipeline;

namespace shoal {

namespace {

// A microsecond a MFLOP and a ms a MB, whatever the op.
ClusterConfig measured_cluster() {
  ClusterConfig cluster = tiny::cluster();
  cluster.clear_efficiency();
  *cluster.mutable_measured() = measured_ops(even_speeds(2e-6));
  return cluster;
}

// Rank 0 of the tiny cluster.
StepPrediction simulated(const Config& config, const ClusterConfig& cluster) {
  return predict_step(config, mesh_sizes(config.parallel()),
                      {.rank = 0, .nodes = simulated_nodes(4, 2), .links = cluster_links(cluster)}, DType::kF32,
                      even_speeds(2e-6));
}

void check_alike(const StepPlan& plan, const StepPrediction& step) {
  constexpr double kRounding = 1e-9;
  CHECK(plan.step_s == Approx(step.step_s).epsilon(kRounding));
  CHECK(plan.rank.ops_s == Approx(step.ops_s).epsilon(kRounding));
  CHECK(plan.rank.host_s == Approx(step.host_s).epsilon(kRounding));
  CHECK(plan.rank.exposed_total_s() == Approx(step.waited_s).epsilon(kRounding));
  CHECK(plan.rank.exposed_total_s() > 0);
  CHECK(plan.rank.model_flops == Approx(step.model_flops).epsilon(kRounding));
  for (size_t link = 0; link < kNumLinkClasses; ++link) {
    CHECK(plan.rank.payload_bytes[link] == Approx(static_cast<double>(step.sent.payload[link])).epsilon(kRounding));
    CHECK(plan.rank.link_busy_s[link] == Approx(step.busy_s[link]).epsilon(kRounding));
  }
}

}  // namespace

TEST_CASE("a planned step is the simulated step, whatever the schedule") {
  const ClusterConfig cluster = measured_cluster();
  Config config = tiny::moe_config();
  config.mutable_parallel()->set_overlap(GENERATE(Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD));
  const StepPlan plan = plan_step(config, cluster);
  const StepPrediction step = simulated(config, cluster);
  CHECK(plan.layout.microbatches == 4);
  CHECK(plan.layout.expert_data == 2);
  CHECK_FALSE(plan.has_closed_forms);
  check_alike(plan, step);
  CHECK(plan.memory_bytes == Approx(static_cast<double>(step.memory.total_peak_bytes)));
  CHECK(plan.checkpoint_bytes_per_rank == step.checkpoint_bytes);
}

TEST_CASE("two short steps tell a longer one") {
  const ClusterConfig cluster = measured_cluster();
  Config config = tiny::moe_config();
  config.mutable_train()->set_global_batch(4 * 14);
  config.mutable_parallel()->set_overlap(GENERATE(Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD));
  const StepPlan plan = plan_step(config, cluster);
  CHECK(plan.layout.microbatches == 14);
  check_alike(plan, simulated(config, cluster));
  CHECK(plan.optimize_s > 0);
  CHECK(plan.optimize_s < plan.step_s);
}

TEST_CASE("AUTO overlap is what the run would choose") {
  Config config = tiny::moe_config();
  config.mutable_parallel()->set_overlap(Overlap::AUTO);
  CHECK(plan_step(config, tiny::cluster()).layout.overlap == Overlap::PAIR_FORWARD);
  config.mutable_train()->set_global_batch(4 * 8);
  CHECK(plan_step(config, tiny::cluster()).layout.overlap == Overlap::PAIR_FORWARD_BACKWARD);
}

TEST_CASE("stages together are the whole network") {
  Config config = tiny::moe_config();
  *config.mutable_model() = GENERATE(tiny::qwen3_moe(), tiny::deepseek_mtp());
  config.mutable_model()->set_layers(4);
  config.mutable_parallel()->set_expert(1);
  const ClusterConfig cluster = tiny::cluster({"num_nodes=1", "gpus_per_node=1"});
  ClusterSpeeds speeds(cluster);
  const auto play = [&](const TransformerPart& part) {
    return play_stage({.config = config,
                       .cluster = cluster,
                       .speeds = speeds,
                       .num_ranks = 1,
                       .compute = DType::kBF16,
                       .part = part,
                       .num_microbatches = 3});
  };
  const PlayedStage whole = play(TransformerPart::whole(config.model()));
  double flops = 0, ops_s = 0;
  int64_t state_bytes = 0;
  for (const TransformerPart& part : divide_layers(config.model(), 16, 3)) {
    const PlayedStage stage = play(part);
    flops += stage.whole.model_flops;
    ops_s += stage.whole.ops_s;
    state_bytes += stage.checkpoint_bytes;
  }
  CHECK(flops == Approx(whole.whole.model_flops));
  // Gradient norms are summed once a stage.
  CHECK(ops_s == Approx(whole.whole.ops_s).epsilon(0.1));
  const ParameterCounts counts = count_parameters(config.model());
  const int64_t parameters = counts.total + counts.mtp - counts.router_biases;
  // Biases are single numbers, and multi-token prediction has the embedding on the last stage, too.
  const int64_t copies = config.model().mtp().depth() > 0 ? counts.embedding : 0;
  CHECK(static_cast<double>(whole.checkpoint_bytes) == Approx(12 * static_cast<double>(parameters)).epsilon(0.01));
  CHECK(state_bytes == whole.checkpoint_bytes + 12 * copies);
}

TEST_CASE("a pipeline's step is that of its slowest stage, and what the closed forms add") {
  Config config = tiny::moe_config();
  config.mutable_parallel()->set_pipeline(2);
  const ClusterConfig cluster = tiny::cluster();
  const StepPlan plan = plan_step(config, cluster);
  CHECK(plan.has_closed_forms);
  CHECK(plan.layout.data == 2);
  CHECK(plan.layout.microbatches == 8);
  REQUIRE(plan.stages.size() == 2);
  // Overlap is off; a step also has a table of losses, a line a microbatch.
  CHECK(plan.pass.pair_s == Approx(plan.pass.forward_s + plan.pass.backward_s).epsilon(1e-3));
  CHECK(plan.pass.weight_s > 0);
  CHECK(plan.pass.weight_s < plan.pass.backward_s);
  CHECK(plan.unpaired_s == 0);
  // 16 rows of 18 numbers in bf16, over half a GB/s, 5 us late.
  const double hop_s = 16 * 18 * 2 / 0.5e9 + 5e-6;
  // Of the mean stage: the other one has no more to do than the slowest.
  CHECK(plan.bubble_s <= plan.pass.forward_s + plan.pass.backward_s + 2 * hop_s);
  CHECK(plan.bubble_s > 0.5 * (plan.pass.forward_s + plan.pass.backward_s) + 2 * hop_s);
  CHECK(plan.step_s == Approx(plan.rank.step_s + plan.bubble_s));
}

TEST_CASE("DualPipe holds two stages' weights, and a microbatch more than there are stages") {
  Config config = tiny::moe_config();
  config.mutable_parallel()->set_pipeline(4);
  config.mutable_parallel()->set_expert(1);
  const StepPlan simple = plan_step(config, tiny::cluster());
  config.mutable_parallel()->set_pipeline_schedule(Pipeline::DUALPIPE);
  const StepPlan dual = plan_step(config, tiny::cluster());
  const auto of = [](const StepPlan& plan, MemoryKind kind) { return plan.memory[static_cast<size_t>(kind)]; };
  CHECK(of(dual, MemoryKind::kGradients) > 1.3 * of(simple, MemoryKind::kGradients));
  CHECK(dual.bubble_s < simple.bubble_s);
  CHECK(of(dual, MemoryKind::kActivations) > of(simple, MemoryKind::kActivations));
}

TEST_CASE("a GPU has no packed copies of bf16 weights") {
  Config config = tiny::moe_config();
  const StepPlan on_gpu = plan_step(config, tiny::cluster());
  ClusterConfig on_cpus = measured_cluster();
  on_cpus.mutable_measured()->set_compute("bf16");
  const StepPlan on_cpu = plan_step(config, on_cpus);
  const auto weights = static_cast<size_t>(MemoryKind::kWeights);
  CHECK(on_gpu.memory[weights] < 0.7 * on_cpu.memory[weights]);
}

TEST_CASE("what does not fit is told, not refused") {
  const StepPlan plan = plan_step(tiny::moe_config(), tiny::cluster());
  CHECK(plan.fits());
  CHECK(plan.memory_limit_bytes == 1024.0 * 1024 * 1024);
  CHECK_FALSE(plan_step(tiny::moe_config(), tiny::cluster({"gpu.memory_gib=0.0001"})).fits());
}

TEST_CASE("layouts that are not the cluster's are refused") {
  Config config = tiny::moe_config();
  config.mutable_parallel()->set_pipeline(3);
  CHECK_THROWS_WITH(plan_step(config, tiny::cluster()),
                    Contains("parallel.pipeline (3) * tensor (1) = 3 does not divide the 4 GPUs of cluster 'tiny'"));
  config.mutable_parallel()->set_pipeline(2);
  config.mutable_parallel()->set_data(3);
  CHECK_THROWS_WITH(plan_step(config, tiny::cluster()), Contains("* data (3) = 6 is not the 4 GPUs"));
  config.mutable_parallel()->set_data(0);
  config.mutable_parallel()->set_pipeline(4);
  CHECK_THROWS_WITH(plan_step(config, tiny::cluster()), Contains("expert"));
}

}  // namespace shoal
