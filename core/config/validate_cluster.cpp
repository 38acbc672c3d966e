// core/config/validate_cluster.cpp: GPUs that exist, links that carry something, efficiencies below one.
#include "core/config/validate_cluster.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include "core/config/checker.h"
#include "core/config/known_gpus.h"
#include "core/config/suggest.h"

namespace shoal {
namespace {

constexpr double kMost = 1e9;

void check_sizes(const Checker& checker, const ClusterConfig& cluster) {
  checker.in_range("num_nodes", int64_t{cluster.num_nodes()}, int64_t{1}, int64_t{1'000'000}, "nodes of the cluster");
  checker.in_range("gpus_per_node", int64_t{cluster.gpus_per_node()}, int64_t{1}, int64_t{1'000'000},
                   "GPUs on each node");
  const int64_t gpus = int64_t{cluster.num_nodes()} * cluster.gpus_per_node();
  if (gpus > 1'000'000) {
    checker.refuse({"num_nodes", "gpus_per_node"}, "num_nodes ({}) * gpus_per_node ({}) = {} GPUs; at most 1000000",
                   cluster.num_nodes(), cluster.gpus_per_node(), gpus);
  }
}

// Of a measured cluster the ops are known without the rest.
void check_gpu(const Checker& checker, const GpuConfig& gpu, bool is_measured) {
  const auto positive = [&](const char* path, double value, const char* what) {
    checker.in_range(std::string("gpu.") + path, value, 1e-9, kMost, what);
  };
  positive("bf16_tflops", gpu.bf16_tflops(), "TFLOP/s; MFU is counted against it");
  checker.in_range("gpu.fp8_tflops", gpu.fp8_tflops(), 0.0, kMost, "TFLOP/s; 0: it has no FP8");
  positive("memory_gib", gpu.memory_gib(), "GiB");
  if (!is_measured) {
    positive("f32_tflops", gpu.f32_tflops(), "TFLOP/s; routers are computed in f32");
    positive("memory_tbyte_per_s", gpu.memory_tbyte_per_s(), "TB/s");
  }
  checker.in_range("gpu.reserved_gib", gpu.reserved_gib(), 0.0, kMost, "GiB");
  if (gpu.reserved_gib() >= gpu.memory_gib()) {
    checker.refuse({"gpu.reserved_gib", "gpu.memory_gib"},
                   "gpu.reserved_gib ({}) leaves nothing of gpu.memory_gib ({}); lower it", gpu.reserved_gib(),
                   gpu.memory_gib());
  }
}

void check_link(const Checker& checker, const std::string& path, bool is_given, const ClusterLink& link, bool is_needed,
                const char* why) {
  if (!is_given && is_needed) checker.refuse(path, "{} is not described, but {}; give its gbyte_per_s", path, why);
  if (!is_given) return;
  const std::string speed = path + ".gbyte_per_s", peak = path + ".peak_gbyte_per_s";
  checker.in_range(peak, link.peak_gbyte_per_s(), 0.0, kMost, "GB/s one way; 0: not said");
  if (link.gbyte_per_s() == 0) {
    checker.refuse({speed, peak, path}, "{} is 0: nothing would ever arrive; give the GB/s that a GPU can send", speed);
  }
  checker.in_range(speed, link.gbyte_per_s(), 1e-9, kMost, "GB/s one way");
  checker.in_range(path + ".latency_us", link.latency_us(), 0.0, kMost, "microseconds");
  if (link.peak_gbyte_per_s() > 0 && link.gbyte_per_s() > link.peak_gbyte_per_s()) {
    checker.refuse({speed, peak}, "{} ({}) exceeds {} ({}): no link carries more than it can; swap them", speed,
                   link.gbyte_per_s(), peak, link.peak_gbyte_per_s());
  }
}

void check_rows(const Checker& checker, const ClusterConfig& cluster) {
  std::set<std::pair<int, int>> seen;
  for (int i = 0; i < cluster.efficiency_size(); ++i) {
    const OpEfficiency& row = cluster.efficiency(i);
    const std::string path = fmt::format("efficiency[{}]", i);
    if (!row.has_kind()) checker.refuse(path, "{}.kind is not set; name what it is the efficiency of", path);
    if (!(row.of_peak() > 0 && row.of_peak() <= 1)) {
      checker.refuse({path + ".of_peak", path}, "{}.of_peak is {}; expected more than 0, up to 1 (a share of the peak)",
                     path, row.of_peak());
    }
    checker.in_range(path + ".half_size", row.half_size(), 0.0, kMost, "GFLOP, or MB");
    checker.in_range(path + ".per_call_us", row.per_call_us(), 0.0, kMost, "microseconds");
    if (!seen.emplace(row.kind(), row.precision()).second) {
      checker.refuse(path, "{} is the second row of {} in precision {}; keep one", path,
                     OpEfficiency::Kind_Name(row.kind()), OpEfficiency::Precision_Name(row.precision()));
    }
  }
}

void check_speeds(const Checker& checker, const ClusterConfig& cluster) {
  if (cluster.has_measured()) {
    if (cluster.efficiency_size() > 0) {
      checker.refuse({"efficiency[0]", "measured"},
                     "the cluster has both efficiencies and measured ops; keep one of them: which would count?");
    }
    if (cluster.measured().op_size() == 0) {
      checker.refuse("measured", "measured names no op; write it with `shoal bench --write-cluster`");
    }
    return;
  }
  check_rows(checker, cluster);
  for (const OpEfficiency::Kind kind : {OpEfficiency::GEMM, OpEfficiency::ATTENTION, OpEfficiency::MEMORY}) {
    const auto is_kind = [&](const OpEfficiency& row) { return row.kind() == kind; };
    if (std::ranges::any_of(cluster.efficiency(), is_kind)) continue;
    checker.refuse("efficiency", "the cluster has no efficiency of {}; every plan needs GEMM, ATTENTION and MEMORY",
                   OpEfficiency::Kind_Name(kind));
  }
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Like the whole name or like what people call it ("h100"), in any case.
std::string nearest_gpu(const std::string& name, const std::vector<std::string>& known) {
  std::map<std::string, std::string> full_names;
  std::vector<std::string> candidates;
  for (const std::string& full : known) {
    for (const std::string& part : {lower(full), lower(full.substr(0, full.find(" SXM")))}) {
      if (full_names.emplace(part, full).second) candidates.push_back(part);
    }
  }
  const std::string near = nearest_name(lower(name), candidates);
  return near.empty() ? "" : full_names.at(near);
}

}  // namespace

void validate_cluster_as_given(const LoadedCluster& loaded) {
  const Checker checker(loaded);
  const ClusterConfig& cluster = loaded.cluster;
  check_finite(checker, cluster);
  const GpuConfig& gpu = cluster.gpu();
  const std::vector<std::string> known = known_gpu_names();
  const bool is_known = std::ranges::find(known, gpu.name()) != known.end();
  const bool is_described =
      gpu.bf16_tflops() > 0 && gpu.memory_gib() > 0 && (gpu.memory_tbyte_per_s() > 0 || cluster.has_measured());
  if (is_known || is_described) return;
  const std::string instead = "or give its bf16_tflops, f32_tflops, memory_gib and memory_tbyte_per_s";
  if (gpu.name().empty()) {
    checker.refuse({"gpu"}, "gpu.name is not set; expected {}, {}", join_choices(known), instead);
  }
  const std::string near = nearest_gpu(gpu.name(), known);
  if (!near.empty()) {
    checker.refuse("gpu.name",
                   "no GPU is known as `{}`; did you mean `{}`? Otherwise, give its bf16_tflops, "
                   "f32_tflops, memory_gib and memory_tbyte_per_s",
                   gpu.name(), near);
  }
  checker.refuse("gpu.name", "no GPU is known as `{}`; expected {}, {}", gpu.name(), join_choices(known), instead);
}

void validate_cluster(const LoadedCluster& loaded) {
  const Checker checker(loaded);
  const ClusterConfig& cluster = loaded.cluster;
  check_sizes(checker, cluster);
  check_gpu(checker, cluster.gpu(), cluster.has_measured());
  check_link(checker, "in_node", cluster.has_in_node(), cluster.in_node(), cluster.gpus_per_node() > 1,
             "a node has several GPUs");
  check_link(checker, "network", cluster.has_network(), cluster.network(), cluster.num_nodes() > 1,
             "there are several nodes");
  checker.in_range("usd_per_gpu_hour", cluster.usd_per_gpu_hour(), 0.0, kMost, "US dollars; 0: not known");
  checker.in_range("between_ops_us", cluster.between_ops_us(), 0.0, kMost, "microseconds");
  checker.in_range("training_time", cluster.training_time(), 0.1, 10.0, "times what the steps take");
  checker.in_range("load_imbalance", cluster.load_imbalance(), 1.0, 1e6, "the fullest rank's tokens over the mean");
  const ReliabilityConfig& reliability = cluster.reliability();
  checker.in_range("reliability.gpu_mtbf_hours", reliability.gpu_mtbf_hours(), 0.0, 1e12, "0: nothing fails");
  checker.in_range("reliability.restart_minutes", reliability.restart_minutes(), 0.0, kMost, "minutes");
  const StorageConfig& storage = cluster.storage();
  checker.in_range("storage.write_gbyte_per_s", storage.write_gbyte_per_s(), 0.0, kMost, "GB/s a node; 0: not known");
  checker.in_range("storage.host_copy_gbyte_per_s", storage.host_copy_gbyte_per_s(), 0.0, kMost,
                   "GB/s a GPU; 0: not known");
  check_speeds(checker, cluster);
}

}  // namespace shoal
