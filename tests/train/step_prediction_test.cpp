// tests/train/step_prediction_test.cpp: a simulated step: what its time is made of, and how links lengthen it.
#include "core/train/step_prediction.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <string>

#include "core/config/load.h"
#include "parallel/thread_communicator.h"
#include "tests/model/tiny_models.h"
#include "tests/train/even_speeds.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

Config small_config() {
  Config config;
  *config.mutable_model() = tiny::qwen3_moe();
  config.mutable_model()->mutable_moe()->set_num_experts(4);
  config.mutable_data()->set_seq_len(16);
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_microbatch(2);
  config.mutable_optim()->set_lr(0.01);
  config.mutable_parallel()->set_overlap(ParallelConfig::Overlap::OFF);
  return config;
}

SimulatedCluster two_ranks(LinkSpeed link) { return {.rank = 0, .nodes = {0, 0}, .links = {link, {}}}; }

const MeshSizes kExpertParallel{.expert = 2};

}  // namespace

// On a simulated clock there is no noise: what the schedules promise holds exactly.
TEST_CASE("two microbatches together hide the wire behind the computation, whichever is longer", "[overlap]") {
  Config config = load_config({"examples/overlap/moe.textproto"}).config;
  OpSpeeds speeds = even_speeds(0);
  for (OpSpeed& speed : speeds.ops) {  // a core: 50 GFLOP/s, 5 GB/s
    const bool multiplies = speed.kind == WorkKind::kGemm || speed.kind == WorkKind::kAttention;
    speed.flops = multiplies ? 5e10 : 0;
    speed.bytes = multiplies ? 0 : 5e9;
  }
  const auto play = [&](ParallelConfig::Overlap::Schedule overlap, double bytes_per_s) {
    config.mutable_parallel()->set_overlap(overlap);
    const LinkSpeed link{.bytes_per_s = bytes_per_s, .latency_s = 30e-6};
    return predict_step(config, kExpertParallel, {.rank = 0, .nodes = {0, 1}, .links = {{}, link}}, DType::kF32,
                        speeds);
  };
  using Overlap = ParallelConfig::Overlap;
  constexpr auto kInterNode = static_cast<size_t>(LinkClass::kInterNode);
  const double compute_s = play(Overlap::OFF, 0).step_s;
  const double bytes = play(Overlap::OFF, 1e9).busy_s[kInterNode] * 1e9;
  for (const double ratio : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    INFO("wire / compute " << ratio);
    const double bytes_per_s = bytes / (ratio * compute_s), longer_s = std::max(1.0, ratio) * compute_s;
    CHECK(play(Overlap::OFF, bytes_per_s).step_s > 0.95 * (1 + ratio) * compute_s);
    const double bound_s = (ratio == 1 ? 1.25 : 1.1) * longer_s;
    CHECK(play(Overlap::PAIR_FORWARD, bytes_per_s).step_s < bound_s);
    CHECK(play(Overlap::PAIR_FORWARD_BACKWARD, bytes_per_s).step_s < bound_s);
  }
}

TEST_CASE("a simulated step without a wire is its ops and the host between them") {
  const SimulatedCluster alone{.rank = 0, .nodes = {0}, .links = {}};
  const StepPrediction step = predict_step(small_config(), {}, alone, DType::kF32, even_speeds(1e-3));
  int64_t calls = 0;
  double ops_s = 0;
  for (const auto& [op, totals] : step.ops) {
    calls += totals.calls;
    ops_s += totals.seconds;
  }
  CHECK(calls > 100);
  CHECK(step.host_s == Approx(1e-3 * static_cast<double>(calls)));
  CHECK(step.ops_s == Approx(ops_s));
  CHECK(step.waited_s == 0);
  CHECK(step.step_s == Approx(step.ops_s + step.host_s));
  double guessed_s = 0;
  for (const auto& [op, seconds] : step.guessed_s) guessed_s += seconds;
  CHECK(guessed_s == Approx(ops_s));
  CHECK_THAT(describe(step), Contains("not measured"));
}

TEST_CASE("a simulated step is the measured one less its waiting: the same ops with the same work") {
  Config config = small_config();
  config.mutable_model()->mutable_moe()->set_routing(MoeConfig::BALANCED);
  OpSpeeds speeds[2];
  run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh(kExpertParallel, world);
    Rehearsal rehearsal(config, mesh, allocator, DType::kF32);
    for (int step = 0; step < 2; ++step) rehearsal.run_step();
    speeds[world.rank()] = measure_op_speeds(rehearsal, 3);
  });
  for (int rank = 0; rank < 2; ++rank) {
    INFO("rank " << rank);
    SimulatedCluster cluster = two_ranks({});
    cluster.rank = rank;
    const StepPrediction step = predict_step(config, kExpertParallel, cluster, DType::kF32, speeds[rank]);
    CHECK(step.guessed_s.empty());
    std::map<std::string, int64_t> simulated, measured;
    for (const auto& [op, totals] : step.ops) simulated[std::string(op)] = totals.calls;
    for (const OpSpeed& op : speeds[rank].ops) measured[op.op] += op.calls;
    CHECK(simulated == measured);
    CHECK(step.ops_s == Approx(speeds[rank].ops_s).epsilon(1e-6));
    CHECK(step.step_s == Approx(speeds[rank].step_s - speeds[rank].waited_s).epsilon(1e-6));
  }
}

TEST_CASE("links lengthen a simulated step by what one lane cannot hide") {
  const OpSpeeds speeds = even_speeds(1e-6);
  const auto predict = [&](LinkSpeed link) {
    return predict_step(small_config(), kExpertParallel, two_ranks(link), DType::kF32, speeds);
  };
  const StepPrediction endless = predict({});
  CHECK(endless.waited_s == 0);
  CHECK(endless.busy_s[1] == 0);
  const StepPrediction slow = predict({.bytes_per_s = 1e5});
  const StepPrediction slower = predict({.bytes_per_s = 5e4});
  for (const StepPrediction* step : {&slow, &slower}) {
    CHECK(step->ops_s == Approx(endless.ops_s));
    CHECK(step->host_s == Approx(endless.host_s));
    CHECK(step->step_s == Approx(step->ops_s + step->host_s + step->waited_s));
    // Nearly nothing is hidden, and nothing that is hidden takes longer than there is to hide it behind.
    CHECK(step->waited_s <= step->busy_s[1] * 1.0001);
    CHECK(step->waited_s >= step->busy_s[1] - endless.step_s);
    CHECK(step->busy_s[2] == 0);
  }
  CHECK(slower.busy_s[1] == Approx(2 * slow.busy_s[1]));
  // A latency is waited for at every transfer that is waited for.
  const StepPrediction late = predict({.latency_s = 0.01});
  CHECK(late.busy_s[1] == 0);
  CHECK(late.waited_s > 0.2);
  CHECK(late.step_s == Approx(endless.step_s + late.waited_s));
  CHECK_THAT(describe(slow), Contains("waiting"));
}

TEST_CASE("two ranks of a node wait twice as long for the node's link as two nodes of one") {
  const OpSpeeds speeds = even_speeds(0);
  const LinkModel links{.intra_node = {}, .inter_node = {.bytes_per_s = 1e5}};
  Config config = small_config();
  config.mutable_train()->set_global_batch(16);
  config.mutable_parallel()->set_dispatch(ParallelConfig::DIRECT);
  const MeshSizes sizes{.expert = 4};
  const StepPrediction shared =
      predict_step(config, sizes, {.rank = 0, .nodes = {0, 0, 1, 1}, .links = links}, DType::kF32, speeds);
  const StepPrediction apart =
      predict_step(config, sizes, {.rank = 0, .nodes = {0, 1, 2, 3}, .links = links}, DType::kF32, speeds);
  CHECK(shared.busy_s[2] > 0);
  // Of a rank's three peers two are elsewhere, by a link for two; or all three, each by its own.
  CHECK(shared.busy_s[2] / apart.busy_s[2] == Approx(2 * 2 / 3.0).epsilon(0.02));
}

TEST_CASE("a predicted step runs beside the copies that checkpoints are written from", "[resume]") {
  Config config = small_config();
  config.mutable_train()->set_steps(10);
  config.mutable_checkpoint()->set_every_steps(4);
  const OpSpeeds speeds = even_speeds(0);
  const auto predict = [&] { return predict_step(config, kExpertParallel, two_ranks({}), DType::kF32, speeds); };
  const StepPrediction beside = predict();
  config.mutable_checkpoint()->set_every_steps(0);
  const StepPrediction alone = predict();
  const int64_t copies = beside.memory.peak_bytes[static_cast<size_t>(MemoryKind::kSnapshot)];
  CHECK(copies > 0);
  CHECK(beside.memory.total_peak_bytes == alone.memory.total_peak_bytes + copies);
  CHECK(beside.step_s == alone.step_s);
}

}  // namespace shoal
