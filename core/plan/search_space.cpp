// core/plan/search_space.cpp: axes by what divides what, and the rules of training and planning asked about each mesh.
#include "core/plan/search_space.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "core/config/validate.h"
#include "core/train/microbatches.h"

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

// "parallel.tensor (3)" → "parallel.tensor (N)".
std::string without_numbers(const std::string& sentence) {
  std::string text;
  for (const char c : sentence) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) {
      text += c;
    } else if (text.empty() || text.back() != 'N') {
      text += 'N';
    }
  }
  return text;
}

}  // namespace

void Refusals::add(const std::string& sentence) {
  Reason& reason = reasons[without_numbers(sentence)];
  if (++reason.count == 1) reason.example = sentence;
}

int64_t Refusals::total() const {
  int64_t count = 0;
  for (const auto& [kind, reason] : reasons) count += reason.count;
  return count;
}

SearchSpace::SearchSpace(const LoadedConfig& loaded, const ClusterConfig& cluster, const std::vector<int>& num_nodes)
    : loaded_(loaded), cluster_(cluster) {
  const Config& config = loaded.config;
  const ParallelConfig& parallel = config.parallel();
  const int64_t node = cluster.gpus_per_node();
  const bool moe = config.model().has_moe();
  const auto axis = [&]<class T>(const char* path, T given, std::vector<T> all) {
    return is_given(path) ? std::vector<T>{given} : std::move(all);
  };
  axes_.num_nodes = num_nodes_axis(cluster, num_nodes);
  const int64_t ranks = node * axes_.num_nodes.back();
  axes_.pipeline =
      axis("parallel.pipeline", int{parallel.pipeline()}, pipeline_axis(config.model(), cluster, axes_.num_nodes));
  axes_.tensor = axis("parallel.tensor", int{parallel.tensor()}, divisors(node, config.model().attention().heads()));
  axes_.expert = axis("parallel.expert", int{parallel.expert()},
                      moe ? divisors(config.model().moe().num_experts(), ranks) : std::vector<int>{1});
  axes_.expert_tensor = axis("parallel.expert_tensor", int{parallel.expert_tensor()},
                             moe ? divisors(node, config.model().moe().ffn()) : std::vector<int>{1});
  axes_.schedule = axis("parallel.pipeline_schedule", parallel.pipeline_schedule(),
                        std::vector<PipelineSchedule>{Pipeline::ONE_F_ONE_B, Pipeline::ZB1P, Pipeline::DUALPIPE});
  axes_.linear = axis("precision.linear", config.precision().linear(), linear_axis(config, cluster));
  axes_.dispatch = axis("parallel.dispatch", parallel.dispatch(),
                        std::vector<ParallelConfig::Dispatch>{ParallelConfig::DIRECT, ParallelConfig::HIERARCHICAL});
  axes_.overlap =
      axis("parallel.overlap", parallel.overlap(),
           std::vector<Overlap::Schedule>{Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD});
  axes_.recompute = is_given("train.recompute")
                        ? std::vector<RecomputeConfig>{with_every_field(config.train().recompute())}
                        : recompute_axis(config);
  axes_.microbatch = axis("train.microbatch", config.train().microbatch(), microbatch_axis(config.train()));
}

// On the command line, it or a part of it.
bool SearchSpace::is_given(const std::string& path) const {
  for (auto at = loaded_.origins.lower_bound(path); at != loaded_.origins.end(); ++at) {
    const auto& [given, origin] = *at;
    if (!given.starts_with(path)) return false;
    const bool inside = given.size() == path.size() || given[path.size()] == '.';
    if (inside && origin.starts_with("override")) return true;
  }
  return false;
}

Config SearchSpace::config_of(const SearchLayout& layout) const {
  Config config = loaded_.config;
  ParallelConfig& parallel = *config.mutable_parallel();
  if (!is_given("parallel.data")) parallel.clear_data();
  parallel.set_pipeline(layout.pipeline);
  parallel.set_tensor(layout.tensor);
  parallel.set_expert(layout.expert);
  parallel.set_expert_tensor(layout.expert_tensor);
  parallel.set_pipeline_schedule(layout.schedule);
  parallel.set_dispatch(layout.dispatch);
  parallel.set_overlap(layout.overlap);
  config.mutable_precision()->set_linear(layout.linear);
  config.mutable_train()->set_microbatch(layout.microbatch);
  *config.mutable_train()->mutable_recompute() = axes_.recompute[static_cast<size_t>(layout.recompute)];
  return config;
}

ClusterConfig SearchSpace::cluster_of(const SearchLayout& layout) const {
  ClusterConfig cluster = cluster_;
  cluster.set_num_nodes(layout.num_nodes);
  return cluster;
}

std::vector<SearchPoint> SearchSpace::points(Refusals& refused) const {
  std::vector<SearchPoint> points;
  SearchLayout layout;
  for (const int nodes : axes_.num_nodes) {
    for (const int pipeline : axes_.pipeline) {
      for (const int tensor : axes_.tensor) {
        for (const int expert : axes_.expert) {
          for (const int expert_tensor : axes_.expert_tensor) {
            layout.num_nodes = nodes;
            layout.pipeline = pipeline;
            layout.tensor = tensor;
            layout.expert = expert;
            layout.expert_tensor = expert_tensor;
            add_points(layout, points, refused);
          }
        }
      }
    }
  }
  return points;
}

// One mesh, in every precision.
void SearchSpace::add_points(SearchLayout layout, std::vector<SearchPoint>& points, Refusals& refused) const {
  layout.overlap = Overlap::OFF;
  layout.dispatch = ParallelConfig::AUTO;
  layout.microbatch = 1;
  LoadedConfig one;
  for (const auto& [path, origin] : loaded_.origins) {
    if (origin.starts_with("override")) one.origins.emplace(path, origin);
  }
  for (const LinearPrecision::Format linear : axes_.linear) {
    layout.linear = linear;
    one.config = config_of(layout);
    PlannedLayout planned;
    try {
      planned = plan_layout(one.config, cluster_of(layout));
      if (planned.data > one.config.train().global_batch()) {
        fail("{} ranks split the batch, but train.global_batch is {}; use more of the other axes, or fewer nodes",
             planned.data, one.config.train().global_batch());
      }
      validate(one, ConfigUse::kStep);
    } catch (const Error& error) {
      refused.add(error.what());
      continue;
    }
    add_schedules(layout, planned, points, refused);
  }
}

void SearchSpace::add_schedules(const SearchLayout& mesh, const PlannedLayout& planned,
                                std::vector<SearchPoint>& points, Refusals& refused) const {
  const bool is_pipeline = mesh.pipeline > 1;
  std::vector<PipelineSchedule> schedules = axes_.schedule;
  if (!is_pipeline) schedules = {Pipeline::ONE_F_ONE_B};
  // Where there is nothing to choose, one value stands for all.
  std::vector<ParallelConfig::Dispatch> dispatches = axes_.dispatch;
  if (dispatches.size() > 1 && !planned.can_go_by_nodes) dispatches = {ParallelConfig::DIRECT};
  std::vector<Overlap::Schedule> overlaps = axes_.overlap;
  const bool in_turn = config().parallel().gradient_reduction() == ParallelConfig::EACH_MICROBATCH;
  if (overlaps.size() > 1 && (!planned.has_wires || in_turn)) overlaps = {Overlap::OFF};
  if (overlaps.size() > 1 && is_pipeline) std::erase(overlaps, Overlap::PAIR_FORWARD);

  SearchPoint point{.layout = mesh, .num_ranks = planned.num_ranks, .data = planned.data};
  Config config = config_of(mesh);
  for (const PipelineSchedule schedule : schedules) {
    config.mutable_parallel()->set_pipeline_schedule(schedule);
    point.layout.schedule = schedule;
    for (const int64_t microbatch : axes_.microbatch) {
      const int64_t batch = config.train().global_batch(), share = (batch + planned.data - 1) / planned.data;
      if (microbatch > share && axes_.microbatch.size() > 1 && microbatch != axes_.microbatch.front()) continue;
      point.layout.microbatch = microbatch;
      point.microbatches = num_microbatches(batch, planned.data, microbatch);
      try {
        check_pipeline(config, point.microbatches);
      } catch (const Error& error) {
        refused.add(error.what());
        continue;
      }
      for (const ParallelConfig::Dispatch dispatch : dispatches) {
        point.layout.dispatch = dispatch;
        for (const Overlap::Schedule overlap : overlaps) {
          if (overlap != Overlap::OFF && overlaps.size() > 1 && point.microbatches < 2) continue;
          point.layout.overlap = overlap;
          for (size_t i = 0; i < axes_.recompute.size(); ++i) {
            point.layout.recompute = static_cast<int>(i);
            points.push_back(point);
          }
        }
      }
    }
  }
}

}  // namespace shoal
