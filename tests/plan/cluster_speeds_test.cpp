// tests/plan/cluster_speeds_test.cpp: seconds of ops on a described GPU, by hand.
#include "core/plan/cluster_speeds.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"
#include "tests/plan/tiny_cluster.h"

using Catch::Matchers::Contains;

namespace shoal {

TEST_CASE("a product takes its FLOPs, or its bytes, whichever is longer") {
  const ClusterConfig cluster = tiny::cluster();
  ClusterSpeeds speeds(cluster);
  Work work{.op = "gemm.forward", .kind = WorkKind::kGemm, .executed_flops = 9e6, .bytes = 1e3};
  work.precision = DType::kBF16;
  // (9 + 1) MFLOP at half of 1 TFLOP/s.
  CHECK(speeds.seconds(work) == Approx(20e-6));
  // The size that takes twice its large op's time: half of the efficiency.
  work.executed_flops = 1e6;
  CHECK(speeds.seconds(work) == Approx(2 * 1e6 / 0.5e12));
  // 5 MB at half of 0.1 TB/s.
  work.bytes = 5e6;
  CHECK(speeds.seconds(work) == Approx(100e-6));
  work = {.op = "gemm_fp8.forward", .kind = WorkKind::kGemm, .executed_flops = 9e6, .precision = DType::kE4M3};
  CHECK(speeds.seconds(work) == Approx(10e-6));
  work.precision = DType::kF32;
  CHECK(speeds.seconds(work) == Approx(40e-6));
}

TEST_CASE("what multiplies no matrices takes its bytes") {
  const ClusterConfig cluster = tiny::cluster();
  ClusterSpeeds speeds(cluster);
  Work work{.op = "rms_norm.forward", .executed_flops = 1e12, .bytes = 5e6};
  CHECK(speeds.seconds(work) == Approx(101e-6));
  work = {.op = "adamw", .kind = WorkKind::kOptimizer, .bytes = 5e6};
  CHECK(speeds.seconds(work) == Approx(101e-6));  // as MEMORY: it has no row of its own
  work.bytes = 0;
  CHECK(speeds.seconds(work) == 0);
}

TEST_CASE("many small experts reach less of the peak than few large ones") {
  const ClusterConfig cluster = tiny::cluster(
      {"efficiency=[{kind: GEMM of_peak: 0.5}, {kind: GROUPED_GEMM of_peak: 0.5 half_size: 0.002}, {kind: ATTENTION "
       "of_peak: 1}, {kind: MEMORY of_peak: 1}]"});
  Work work{.op = "grouped_gemm.forward", .kind = WorkKind::kGemm, .executed_flops = 8e6};
  work.precision = DType::kBF16;
  ClusterSpeeds one(cluster), four(cluster);
  four.set_local_experts(4);
  CHECK(one.seconds(work) == Approx((8 + 2) * 1e6 / 0.5e12));
  // At the half size of each, half of it.
  CHECK(four.seconds(work) == Approx(2 * 8e6 / 0.5e12));
  work.op = "gemm.forward";
  CHECK(four.seconds(work) == Approx(8e6 / 0.5e12));
}

TEST_CASE("others wait for the rank whose experts have most tokens") {
  const std::string rows =
      "efficiency=[{kind: GEMM of_peak: 0.5}, {kind: ATTENTION of_peak: 1}, {kind: MEMORY of_peak: 1}]";
  const ClusterConfig balanced = tiny::cluster({rows}), uneven = tiny::cluster({rows, "load_imbalance=1.5"});
  Work work{.op = "grouped_gemm.forward", .kind = WorkKind::kGemm, .executed_flops = 8e6};
  work.precision = DType::kBF16;
  CHECK(ClusterSpeeds(uneven).seconds(work) == Approx(1.5 * ClusterSpeeds(balanced).seconds(work)));
  work.op = "gemm.forward";
  CHECK(ClusterSpeeds(uneven).seconds(work) == ClusterSpeeds(balanced).seconds(work));
}

TEST_CASE("the row of a precision goes before that of any") {
  const ClusterConfig cluster = tiny::cluster(
      {"efficiency=[{kind: GEMM of_peak: 0.5}, {kind: GEMM precision: FP8 of_peak: 0.25}, {kind: GROUPED_GEMM "
       "precision: BF16 of_peak: 0.1}, {kind: ATTENTION precision: BF16 of_peak: 1}, {kind: MEMORY of_peak: 1}]"});
  ClusterSpeeds speeds(cluster);
  const auto seconds = [&](const char* op, WorkKind kind, DType precision) {
    return speeds.seconds({.op = op, .kind = kind, .executed_flops = 1e9, .precision = precision});
  };
  CHECK(seconds("gemm.forward", WorkKind::kGemm, DType::kBF16) == Approx(2e-3));
  CHECK(seconds("gemm_fp8.forward", WorkKind::kGemm, DType::kE4M3) == Approx(2e-3));
  CHECK(seconds("grouped_gemm.forward", WorkKind::kGemm, DType::kBF16) == Approx(10e-3));
  CHECK(seconds("grouped_gemm_fp8.forward", WorkKind::kGemm, DType::kE4M3) == Approx(2e-3));  // as GEMM
  CHECK_THROWS_WITH(seconds("attention.forward", WorkKind::kAttention, DType::kF32),
                    Contains("no efficiency of ATTENTION in F32, which attention.forward needs"));
}

TEST_CASE("FP8 on a GPU that has none is refused") {
  const ClusterConfig cluster = tiny::cluster({"gpu.fp8_tflops=0"});
  ClusterSpeeds speeds(cluster);
  const Work work{.op = "gemm_fp8.forward", .kind = WorkKind::kGemm, .executed_flops = 1, .precision = DType::kE4M3};
  CHECK_THROWS_WITH(speeds.seconds(work), Contains("GPU 'abacus' of cluster 'tiny' has none; set precision.linear"));
}

TEST_CASE("measured ops go into a description and come out again") {
  OpSpeeds speeds;
  speeds.model = "m";
  speeds.compute = "bf16";
  speeds.device = "cpu";
  speeds.num_ranks = 2;
  speeds.threads_per_rank = 3;
  speeds.ops = {{.op = "gemm.forward",
                 .kind = WorkKind::kGemm,
                 .precision = DType::kBF16,
                 .s_per_call = 1e-6,
                 .s_per_flop = 1e-12,
                 .s_per_byte = 1e-10,
                 .calls = 7,
                 .flops = 1e9,
                 .bytes = 1e6,
                 .seconds = 0.5}};
  ClusterConfig cluster = tiny::cluster();
  cluster.clear_efficiency();
  *cluster.mutable_measured() = measured_ops(speeds);
  const OpSpeeds back = op_speeds(cluster);
  CHECK(back.model == "m");
  CHECK(back.num_ranks == 2);
  CHECK(back.between_ops_s == Approx(2e-6));
  REQUIRE(back.ops.size() == 1);
  ClusterSpeeds from_cluster(cluster);
  const Work work{
      .op = "gemm.forward", .kind = WorkKind::kGemm, .executed_flops = 2e6, .bytes = 1e4, .precision = DType::kBF16};
  CHECK(from_cluster.seconds(work) == Approx(1e-6 + 2e-6 + 1e-6));
  CHECK(from_cluster.imitated() == DeviceKind::kCpu);
  cluster.mutable_measured()->mutable_op(0)->set_kind("gem");
  CHECK_THROWS_WITH(op_speeds(cluster), Contains("there is no kind of work 'gem'"));
}

TEST_CASE("a node's GPUs share what they have together") {
  const LinkModel links = cluster_links(tiny::cluster());
  CHECK(links.intra_node.bytes_per_s == 1e9);
  CHECK(links.intra_node.latency_s == Approx(2e-6));
  CHECK(links.inter_node.bytes_per_s == 1e9);  // two of 0.5
}

}  // namespace shoal
