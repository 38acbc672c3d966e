// core/plan/layout_bound.cpp: a layer's passes times layers, microbatches and what pipelines add.
#include "core/plan/layout_bound.h"

#include <algorithm>
#include <limits>

#include "core/model/flops.h"
#include "core/plan/pipeline.h"

namespace shoal {

namespace {

using Overlap = ParallelConfig::Overlap;

// A layer of another mesh has other sizes of products, and pieces of them are never faster than the whole; this is for
// what packing, sorting and launching differ by.
constexpr double kUnlikeMesh = 0.95;
// Of the waiting that another microbatch's ops could hide, this much stays where plans were compared. Only the order of
// looking depends on it.
constexpr double kStaysExposed = 0.4;

double compute_bytes(const Config& config) {
  return config.precision().compute() == PrecisionConfig::F32 ? 4 : 2;
}

bool in_pairs(const SearchLayout& layout) {
  return layout.overlap == Overlap::PAIR_FORWARD_BACKWARD || layout.overlap == Overlap::PAIR_FORWARD;
}

bool is_dual(const SearchLayout& layout) {
  return layout.pipeline > 1 && layout.schedule == ParallelConfig::Pipeline::DUALPIPE;
}

}  // namespace

LayoutBounds::LayoutBounds(const SearchSpace& space, const std::vector<SearchPoint>& points, StagePlays& plays)
    : space_(space), points_(points), plays_(plays) {
  const ModelConfig& model = space.config().model();
  typical_layer_ = model.layers() - 1;
  ModelConfig shorter = model;
  shorter.set_layers(model.layers() + 1);
  const double layer = static_cast<double>(count_parameters(shorter).total - count_parameters(model).total);
  if (model.has_moe()) {
    expert_parameters_ = 3.0 * static_cast<double>(model.moe().num_experts() * model.hidden() * model.moe().ffn());
  }
  other_parameters_ = layer - expert_parameters_;
}

PlayedPass LayoutBounds::play(const SearchPoint& point) {
  const Config config = space_.config_of(point.layout);
  const ClusterConfig cluster = space_.cluster_of(point.layout);
  PlannedLayout layout = plan_layout(config, cluster);
  layout.overlap = Overlap::OFF;
  const Config stage = stage_config(config, cluster, layout);
  return plays_.pass({.config = stage,
                      .cluster = cluster,
                      .speeds = plays_.speeds(),
                      .num_ranks = layout.stage_ranks(),
                      .compute = layout.compute,
                      .part = {.first_layer = typical_layer_, .num_layers = 1, .embedding = false, .head = false},
                      .num_microbatches = 2});
}

// The least of the meshes with the fewest and with the most experts a rank, that split nothing else.
const LayoutBounds::Unit& LayoutBounds::unit(const SearchPoint& point) {
  const auto key = std::tuple(static_cast<int>(point.layout.linear), point.layout.recompute);
  const auto found = units_.find(key);
  if (found != units_.end()) return found->second;
  const auto least_split = [](const SearchPoint& p) {
    return std::tuple(p.layout.tensor * p.layout.expert_tensor, -p.layout.microbatch, p.layout.pipeline);
  };
  const SearchPoint* fewest = nullptr;
  const SearchPoint* most = nullptr;
  for (const SearchPoint& p : points_) {
    if (std::tuple(static_cast<int>(p.layout.linear), p.layout.recompute) != key) continue;
    const auto better = [&](const SearchPoint* than, int expert, int than_expert) {
      return than == nullptr || std::tuple(least_split(p), expert) < std::tuple(least_split(*than), than_expert);
    };
    if (better(fewest, p.layout.expert, fewest == nullptr ? 0 : fewest->layout.expert)) fewest = &p;
    if (better(most, -p.layout.expert, most == nullptr ? 0 : -most->layout.expert)) most = &p;
  }
  constexpr double kNever = std::numeric_limits<double>::infinity();
  Unit unit{kNever, kNever, 0};
  for (const SearchPoint* p : {fewest, most}) {
    const PlayedPass pass = play(*p);
    const double tokens = static_cast<double>(p->layout.microbatch) / p->layout.tensor;
    unit.forward_s = std::min(unit.forward_s, kUnlikeMesh * pass.forward_s / tokens);
    unit.backward_s = std::min(unit.backward_s, kUnlikeMesh * pass.backward_s / tokens);
    unit.weight_s = std::max(unit.weight_s, pass.weight_s / tokens);
  }
  return units_.emplace(key, unit).first->second;
}

const std::vector<LayoutBounds::Stage>& LayoutBounds::stages(int num_stages) {
  const auto found = stages_.find(num_stages);
  if (found != stages_.end()) return found->second;
  const ModelConfig& model = space_.config().model();
  const ParameterCounts counts = count_parameters(model);
  std::vector<Stage> stages;
  for (const TransformerPart& part : divide_layers(model, space_.config().data().seq_len(), num_stages)) {
    Stage stage{.layers = part.num_layers - (model.has_moe() ? dense_layers(model, part) : 0),
                .parameters = 0,
                .head = part.head};
    stage.parameters = static_cast<double>(stage.layers) * other_parameters_;
    if (part.embedding) stage.parameters += static_cast<double>(counts.embedding);
    if (part.head) stage.parameters += static_cast<double>(counts.head);
    stages.push_back(stage);
  }
  return stages_.emplace(num_stages, std::move(stages)).first->second;
}

LayoutBound LayoutBounds::quick(const SearchPoint& point) {
  const Unit& of_token = unit(point);
  const double tokens = static_cast<double>(point.layout.microbatch) / point.layout.tensor;
  PlayedPass layer{.forward_s = of_token.forward_s * tokens,
                   .backward_s = of_token.backward_s * tokens,
                   .weight_s = of_token.weight_s * tokens};
  // Every layer keeps its input at least.
  const Config& config = space_.config();
  layer.kept_activations = tokens * static_cast<double>(config.data().seq_len() * config.model().hidden()) *
                           compute_bytes(config);
  return bound(point, layer);
}

LayoutBound LayoutBounds::close(const SearchPoint& point) { return bound(point, play(point)); }

LayoutBound LayoutBounds::bound(const SearchPoint& point, const PlayedPass& layer) {
  LayoutBound result;
  add_time(point, layer, result);
  add_memory(point, layer, result);
  return result;
}

void LayoutBounds::add_time(const SearchPoint& point, const PlayedPass& layer, LayoutBound& bound) {
  const SearchLayout& layout = point.layout;
  const std::vector<Stage>& all = stages(layout.pipeline);
  const double ops_s = layer.forward_s + layer.backward_s, passes_s = ops_s + layer.wire_s;
  const double busy_s = std::max(layer.link_busy_s[0], layer.link_busy_s[1]);
  const double least_s = in_pairs(layout) ? std::max(ops_s, busy_s) : passes_s;
  const double likely_s = in_pairs(layout) ? std::max(least_s, ops_s + kStaysExposed * layer.wire_s) : passes_s;
  double slowest = 0, mean = 0;  // layers of a rank
  for (size_t s = 0; s < all.size(); ++s) {
    const double own = static_cast<double>(all[s].layers);
    const double of_rank = is_dual(layout) ? (own + static_cast<double>(all[all.size() - 1 - s].layers)) / 2 : own;
    slowest = std::max(slowest, of_rank);
    mean += own / static_cast<double>(all.size());
  }
  const auto microbatches = static_cast<double>(point.microbatches);
  const auto total = [&](double pair_s, double backward_s) {
    double step_s = microbatches * slowest * pair_s;
    if (layout.pipeline == 1) return step_s;
    // Waiting is told of both passes together; the forms below that look at one of them alone get none of it.
    const StageTimes times{.forward_s = mean * (passes_s - backward_s),
                           .backward_s = mean * backward_s,
                           .weight_s = mean * layer.weight_s,
                           .pair_s = mean * pair_s};
    step_s += pipeline_bubble_s(layout.schedule, layout.pipeline, times);
    if (layout.overlap == Overlap::PAIR_FORWARD_BACKWARD) {
      step_s += (passes_alone(layout.schedule, layout.pipeline) - 1) * slowest * std::max(passes_s - pair_s, 0.0);
    }
    return step_s;
  };
  bound.step_s = total(least_s, layer.backward_s);
  bound.guess_s = total(likely_s, layer.backward_s + layer.wire_s / 2);
}

void LayoutBounds::add_memory(const SearchPoint& point, const PlayedPass& layer, LayoutBound& bound) {
  const SearchLayout& layout = point.layout;
  const std::vector<Stage>& all = stages(layout.pipeline);
  const double experts_a_layer = expert_parameters_ / (layout.expert * layout.expert_tensor);
  const double weight_bytes = compute_bytes(space_.config());
  constexpr double kGradientBytes = 4;
  const auto parameters = [&](const Stage& stage) {
    return stage.parameters / layout.tensor + static_cast<double>(stage.layers) * experts_a_layer;
  };
  for (size_t s = 0; s < all.size(); ++s) {
    const Stage& other = all[all.size() - 1 - s];
    double held = 1, layers = static_cast<double>(all[s].layers), of_rank = parameters(all[s]);
    if (layout.pipeline > 1) {
      held = microbatches_held(layout.schedule, layout.pipeline, static_cast<int>(s), in_pairs(layout));
      held = std::min(held, static_cast<double>(point.microbatches));
    }
    if (is_dual(layout)) {
      of_rank += parameters(other);
      layers = (layers + static_cast<double>(other.layers)) / 2;
    }
    const double activations = held * layers * layer.kept_activations;
    const double bytes = of_rank * (weight_bytes + kGradientBytes) + activations;
    if (bytes <= bound.memory_bytes) continue;
    bound.memory_bytes = bytes;
    bound.weight_bytes = of_rank * weight_bytes;
    bound.gradient_bytes = of_rank * kGradientBytes;
    bound.activation_bytes = activations;
  }
}

}  // namespace shoal
