// core/plan/search_space.cpp: the rules of training and planning asked about each mesh.
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
    : loaded_(loaded), cluster_(cluster), axes_(make_axes(loaded, cluster, num_nodes)) {}

Config SearchSpace::config_of(const SearchLayout& layout) const {
  Config config = loaded_.config;
  ParallelConfig& parallel = *config.mutable_parallel();
  if (!is_on_command_line(loaded_, "parallel.data")) parallel.clear_data();
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

std::optional<SearchLayout> SearchSpace::given_layout() const {
  const ParallelConfig& parallel = config().parallel();
  PlannedLayout resolved;
  try {
    resolved = plan_layout(config(), cluster_);
  } catch (const Error&) {
    return std::nullopt;
  }
  const ParallelConfig::Dispatch automatic =
      resolved.can_go_by_nodes ? ParallelConfig::HIERARCHICAL : ParallelConfig::DIRECT;
  return SearchLayout{.num_nodes = cluster_.num_nodes(),
                      .pipeline = parallel.pipeline(),
                      .tensor = parallel.tensor(),
                      .expert = parallel.expert(),
                      .expert_tensor = parallel.expert_tensor(),
                      .schedule = resolved.pipeline > 1 ? parallel.pipeline_schedule() : SearchLayout().schedule,
                      .linear = config().precision().linear(),
                      .dispatch = parallel.dispatch() == ParallelConfig::AUTO ? automatic : parallel.dispatch(),
                      .overlap = resolved.overlap,
                      .recompute = 0,
                      .microbatch = config().train().microbatch()};
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
