// core/plan/measured_cluster.cpp: benches to fields.
#include "core/plan/measured_cluster.h"

#include <google/protobuf/text_format.h>

#include <algorithm>

#include "core/plan/cluster_speeds.h"

namespace shoal {

ClusterLink fit_link(const std::vector<VerbTime>& times) {
  const VerbTime *small = nullptr, *large = nullptr;
  for (const VerbTime& time : times) {
    if (time.verb != "all_to_all_rows" || time.bytes == 0) continue;
    if (small == nullptr || time.bytes < small->bytes) small = &time;
    if (large == nullptr || time.bytes > large->bytes) large = &time;
  }
  if (small == nullptr || small->bytes == large->bytes || large->num_ranks < 2) {
    fail("a link's speed needs all_to_all_rows of two sizes between two ranks or more");
  }
  const double sent = static_cast<double>(large->bytes - small->bytes) * bus_factor(large->verb, large->num_ranks);
  const double longer_us = std::max(large->time.median_us - small->time.median_us, 1e-3);
  ClusterLink link;
  link.set_gbyte_per_s(sent / longer_us * 1e-3);
  link.set_latency_us(small->time.median_us);
  link.set_source(fmt::format("all_to_all_rows of {} and {} bytes, {} ranks, median times", small->bytes, large->bytes,
                              large->num_ranks));
  return link;
}

ClusterConfig measured_cluster(const BenchTrain& bench, const std::vector<VerbTime>& times, int64_t memory_bytes) {
  SHOAL_CHECK(!bench.speeds.ops.empty());
  ClusterConfig cluster;
  cluster.set_name("measured");
  cluster.set_num_nodes(1);
  cluster.set_gpus_per_node(bench.num_ranks);
  GpuConfig& gpu = *cluster.mutable_gpu();
  gpu.set_name(fmt::format("{} rank of {} thread(s)", bench.speeds.device, bench.threads_per_rank));
  gpu.set_bf16_tflops(bench.gemm_tflops / bench.num_ranks);
  gpu.set_memory_gib(static_cast<double>(memory_bytes) / (1 << 30));
  gpu.set_reserved_gib(0);
  gpu.set_source(
      fmt::format("bf16_tflops: a packed {}^3 product in {}, all ranks at once", bench.gemm_size, bench.compute));
  if (bench.num_ranks > 1) *cluster.mutable_in_node() = fit_link(times);
  cluster.set_between_ops_us(bench.speeds.between_ops_s * 1e6);
  *cluster.mutable_measured() = measured_ops(bench.speeds);
  cluster.set_source("shoal bench train --write-cluster");
  return cluster;
}

std::string to_text(const ClusterConfig& cluster) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  SHOAL_CHECK(printer.PrintToString(cluster, &text));
  return text;
}

}  // namespace shoal
