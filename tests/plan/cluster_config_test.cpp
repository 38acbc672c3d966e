// tests/plan/cluster_config_test.cpp: what descriptions of clusters say, and what they must not.
#include <catch2/catch.hpp>

#include <filesystem>

#include "core/base/check.h"
#include "tests/plan/tiny_cluster.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

// The message that refuses the tiny cluster with these changes.
std::string refusal(const std::vector<std::string>& overrides) {
  try {
    tiny::cluster(overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::string refusal_of_text(const std::string& text) {
  try {
    parse_cluster(text, "c.textproto");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("every cluster that comes with the program can be read") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs/clusters")) {
    INFO(entry.path());
    const ClusterConfig cluster = load_cluster(entry.path().string()).cluster;
    CHECK(cluster.name() == entry.path().stem());
    CHECK(cluster.usd_per_gpu_hour() > 0);
    for (const OpEfficiency& row : cluster.efficiency()) CHECK_FALSE(row.source().empty());
    for (const ClusterLink& link : {cluster.in_node(), cluster.network()}) CHECK_FALSE(link.source().empty());
    ++count;
  }
  CHECK(count >= 7);
}

TEST_CASE("a GPU's name tells its figures, and figures that are given go before") {
  const std::string rows =
      "efficiency { kind: GEMM of_peak: 1 } efficiency { kind: ATTENTION of_peak: 1 } "
      "efficiency { kind: MEMORY of_peak: 1 } gpus_per_node: 1";
  const ClusterConfig known = parse_cluster("gpu { name: \"H800 SXM\" memory_gib: 70 }" + rows, "c.textproto").cluster;
  CHECK(known.gpu().bf16_tflops() == 989.5);
  CHECK(known.gpu().fp8_tflops() == 1979);
  CHECK(known.gpu().memory_gib() == 70);
  CHECK_THAT(refusal_of_text("gpu { name: \"H80 SXM\" }" + rows),
             Contains("c.textproto:1:7: no GPU is known as `H80 SXM`; did you mean `H800 SXM`?"));
  CHECK_THAT(refusal_of_text("gpu { name: \"calculator\" }" + rows),
             Contains("expected H100 SXM, ") && Contains("or give its bf16_tflops"));
  CHECK_THAT(refusal_of_text(rows), Contains("gpu.name is not set"));
}

TEST_CASE("a link without a speed of its own reaches its peak") {
  CHECK(tiny::cluster().in_node().gbyte_per_s() == 1);
  std::string text = tiny::kCluster;
  const std::string speed = " gbyte_per_s: 1 ";
  text.erase(text.find(speed), speed.size() - 1);
  CHECK(parse_cluster(text, "c.textproto").cluster.in_node().gbyte_per_s() == 2);
}

TEST_CASE("links that carry nothing are refused") {
  CHECK_THAT(refusal({"network.gbyte_per_s=0"}),
             Contains("cluster.network.gbyte_per_s=0: network.gbyte_per_s is 0: nothing would ever arrive"));
  CHECK_THAT(refusal({"in_node.gbyte_per_s=0"}),  // whatever its peak
             Contains("cluster.in_node.gbyte_per_s=0: in_node.gbyte_per_s is 0: nothing would ever arrive"));
  CHECK_THAT(refusal({"network.gbyte_per_s=-1"}), Contains("network.gbyte_per_s is -1"));
  CHECK_THAT(refusal({"in_node.gbyte_per_s=3"}),
             Contains("in_node.gbyte_per_s (3) exceeds in_node.peak_gbyte_per_s (2)"));
  CHECK_THAT(refusal({"network.latency_us=nan"}), Contains("network.latency_us"));
  const std::string alone =
      "gpu { name: \"H100 SXM\" } gpus_per_node: 1 num_nodes: 2 "
      "efficiency { kind: GEMM of_peak: 1 }";
  CHECK_THAT(refusal_of_text(alone), Contains("network is not described, but there are several nodes"));
}

TEST_CASE("sizes, peaks and efficiencies that contradict each other are refused") {
  CHECK_THAT(refusal({"num_nodes=0"}), Contains("num_nodes is 0; expected 1 to 1000000"));
  CHECK_THAT(refusal({"num_nodes=1000000"}), Contains("= 2000000 GPUs; at most 1000000"));
  CHECK_THAT(refusal({"gpu.reserved_gib=1"}), Contains("gpu.reserved_gib (1) leaves nothing of gpu.memory_gib (1)"));
  CHECK_THAT(refusal({"gpu.bf16_tflops=0"}), Contains("no GPU is known as `abacus`"));
  CHECK_THAT(refusal({"efficiency=[{kind: GEMM of_peak: 1.2}]"}), Contains("of_peak is 1.2; expected more than 0"));
  CHECK_THAT(refusal({"efficiency=[{kind: GEMM of_peak: 0.2}]"}), Contains("no efficiency of ATTENTION"));
  CHECK_THAT(refusal({"efficiency=[{kind: GEMM of_peak: 0.2}, {kind: GEMM of_peak: 0.3}]"}),
             Contains("efficiency[1] is the second row of GEMM in precision ANY"));
  CHECK_THAT(refusal({"measured={op: {name: \"gemm.forward\" kind: \"gemm\"}}"}),
             Contains("both efficiencies and measured ops"));
  CHECK_THAT(refusal({"usd_per_gpu_hour=-2"}), Contains("usd_per_gpu_hour is -2"));
}

TEST_CASE("misspelt fields of a cluster get the nearest name") {
  CHECK_THAT(refusal({"num_node=2"}), Contains("did you mean `num_nodes`?"));
  CHECK_THAT(refusal_of_text("gpu {\n  memory_gb: 80\n}"),
             Contains("c.textproto:2:3: gpu has no field `memory_gb`; did you mean"));
}

}  // namespace shoal
