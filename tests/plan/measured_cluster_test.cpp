// tests/plan/measured_cluster_test.cpp: measurements become a description that can be read and planned on.
#include "core/plan/measured_cluster.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"
#include "core/plan/plan.h"
#include "tests/plan/tiny_cluster.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

VerbTime all_to_all(int64_t bytes, double median_us) {
  return {.verb = "all_to_all_rows", .bytes = bytes, .num_ranks = 2, .time = {.median_us = median_us, .best_us = 0}};
}

}  // namespace

TEST_CASE("a link's speed is what larger messages take longer") {
  // Half of 1,000,000 bytes more in 250 us: 2 GB/s.
  const ClusterLink link = fit_link({all_to_all(1000, 20), all_to_all(1'001'000, 270), {.verb = "barrier"}});
  CHECK(link.gbyte_per_s() == Approx(2));
  CHECK(link.latency_us() == Approx(20));
  CHECK_THROWS_WITH(fit_link({all_to_all(1000, 20)}), Contains("two sizes"));
}

TEST_CASE("what was measured can be written, read and planned on") {
  BenchTrain bench;
  bench.num_ranks = 2;
  bench.gemm_tflops = 0.2;
  bench.speeds.model = "m";
  bench.speeds.compute = "f32";
  bench.speeds.device = "cpu";
  bench.speeds.between_ops_s = 3e-6;
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    bench.speeds.ops.push_back({.op = "other",
                                .kind = static_cast<WorkKind>(kind),
                                .s_per_flop = 1e-12,
                                .calls = 1,
                                .flops = 1e9,
                                .bytes = 1e9,
                                .seconds = 1});
  }
  const ClusterConfig written =
      measured_cluster(bench, {all_to_all(1000, 20), all_to_all(1'001'000, 270)}, int64_t{4} << 30);
  const ClusterConfig read = parse_cluster(to_text(written), "here.textproto").cluster;
  CHECK(read.gpu().bf16_tflops() == Approx(0.1));
  CHECK(read.between_ops_us() == Approx(3));
  CHECK(read.measured().op_size() == kNumWorkKinds);
  const Plan plan = make_plan(tiny::moe_config(), read);
  CHECK(plan.step.layout.compute == DType::kF32);
  CHECK(plan.step.layout.num_ranks == 2);
  CHECK_FALSE(plan.step.guessed_s.empty());
  CHECK_THAT(describe(plan), Contains("ops measured with model 'm'") && Contains("not measured, taken at the mean"));
}

}  // namespace shoal
