// core/plan/search_axes.cpp: axes by what divides what.
#include "core/plan/search_axes.h"

#include <algorithm>
#include <set>

namespace shoal {

namespace {

using Overlap = ParallelConfig::Overlap;
using Pipeline = ParallelConfig::Pipeline;

std::vector<int> divisors(int64_t number, int64_t at_most) {
  std::vector<int> all;
  for (int64_t d = 1; d <= std::min(number, at_most); ++d) {
    if (number % d == 0) all.push_back(static_cast<int>(d));
  }
  return all;
}

std::vector<int> num_nodes_axis(const ClusterConfig& cluster, const std::vector<int>& asked) {
  std::set<int> sizes(asked.begin(), asked.end());
  if (sizes.empty()) sizes.insert(cluster.num_nodes());
  return {sizes.begin(), sizes.end()};
}

// A mesh that suits one size of the cluster need not suit another; rules will tell.
std::vector<int> pipeline_axis(const ModelConfig& model, const ClusterConfig& cluster,
                               const std::vector<int>& num_nodes) {
  std::set<int> stages;
  for (const int nodes : num_nodes) {
    for (const int d : divisors(int64_t{nodes} * cluster.gpus_per_node(), model.layers())) stages.insert(d);
  }
  return {stages.begin(), stages.end()};
}

RecomputeConfig recompute(bool norms, bool mla_up, bool swiglu, bool block, bool keep_received) {
  RecomputeConfig config;
  config.set_norms(norms);
  config.set_mla_up(mla_up);
  config.set_swiglu(swiglu);
  config.set_block(block);
  config.set_keep_received(keep_received);
  return config;
}

RecomputeConfig with_every_field(const RecomputeConfig& given) {
  return recompute(given.norms(), given.mla_up(), given.swiglu(), given.block(), given.keep_received());
}

std::vector<RecomputeConfig> recompute_axis(const Config& config) {
  const bool mla = config.model().attention().kind() == AttentionConfig::MLA;
  std::vector<RecomputeConfig> all{
      with_every_field(config.train().recompute()), recompute(false, false, false, false, false),
      recompute(false, false, true, false, false), recompute(true, mla, true, false, false),
      recompute(false, false, true, true, false)};
  if (config.model().has_moe()) all.push_back(recompute(false, false, true, true, true));
  std::set<std::string> seen;
  std::erase_if(all, [&](const RecomputeConfig& one) { return !seen.insert(one.SerializeAsString()).second; });
  return all;
}

std::vector<int64_t> microbatch_axis(const TrainConfig& train) {
  std::set<int64_t> sizes{1, 2, 4, 8, train.microbatch()};
  return {sizes.begin(), sizes.end()};
}

std::vector<LinearPrecision::Format> linear_axis(const Config& config, const ClusterConfig& cluster) {
  if (cluster.has_measured() || config.precision().compute() == PrecisionConfig::F32) {
    return {config.precision().linear()};
  }
  if (cluster.gpu().fp8_tflops() > 0) return {LinearPrecision::BF16, LinearPrecision::FP8};
  return {LinearPrecision::BF16};
}

}  // namespace

bool is_on_command_line(const LoadedConfig& loaded, const std::string& path) {
  for (auto at = loaded.origins.lower_bound(path); at != loaded.origins.end(); ++at) {
    const auto& [given, origin] = *at;
    if (!given.starts_with(path)) return false;
    const bool inside = given.size() == path.size() || given[path.size()] == '.';
    if (inside && origin.starts_with("override")) return true;
  }
  return false;
}

SearchAxes make_axes(const LoadedConfig& loaded, const ClusterConfig& cluster, const std::vector<int>& num_nodes) {
  SearchAxes axes;
  const Config& config = loaded.config;
  const ParallelConfig& parallel = config.parallel();
  const int64_t node = cluster.gpus_per_node();
  const bool moe = config.model().has_moe();
  const auto axis = [&]<class T>(const char* path, T given, std::vector<T> all) {
    return is_on_command_line(loaded, path) ? std::vector<T>{given} : std::move(all);
  };
  axes.num_nodes = num_nodes_axis(cluster, num_nodes);
  const int64_t ranks = node * axes.num_nodes.back();
  axes.pipeline =
      axis("parallel.pipeline", int{parallel.pipeline()}, pipeline_axis(config.model(), cluster, axes.num_nodes));
  axes.tensor = axis("parallel.tensor", int{parallel.tensor()}, divisors(node, config.model().attention().heads()));
  axes.expert = axis("parallel.expert", int{parallel.expert()},
                     moe ? divisors(config.model().moe().num_experts(), ranks) : std::vector<int>{1});
  axes.expert_tensor = axis("parallel.expert_tensor", int{parallel.expert_tensor()},
                            moe ? divisors(node, config.model().moe().ffn()) : std::vector<int>{1});
  axes.schedule = axis("parallel.pipeline_schedule", parallel.pipeline_schedule(),
                       std::vector<PipelineSchedule>{Pipeline::ONE_F_ONE_B, Pipeline::ZB1P, Pipeline::DUALPIPE});
  axes.linear = axis("precision.linear", config.precision().linear(), linear_axis(config, cluster));
  axes.dispatch = axis("parallel.dispatch", parallel.dispatch(),
                       std::vector<ParallelConfig::Dispatch>{ParallelConfig::DIRECT, ParallelConfig::HIERARCHICAL});
  axes.overlap =
      axis("parallel.overlap", parallel.overlap(),
           std::vector<Overlap::Schedule>{Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD});
  axes.recompute = is_on_command_line(loaded, "train.recompute")
                       ? std::vector<RecomputeConfig>{with_every_field(config.train().recompute())}
                       : recompute_axis(config);
  axes.microbatch = axis("train.microbatch", config.train().microbatch(), microbatch_axis(config.train()));
  return axes;
}

}  // namespace shoal
