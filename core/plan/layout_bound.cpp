// core/plan/layout_bound.cpp: a layer's passes times layers, microbatches and what pipelines add.
#include "core/plan/layout_bound.h"

#include <algorithm>
#include <limits>
#include <numeric>

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

double compute_bytes(const Config& config) { return config.precision().compute() == PrecisionConfig::F32 ? 4 : 2; }

bool in_pairs(const SearchLayout& layout) {
  return layout.overlap == Overlap::PAIR_FORWARD_BACKWARD || layout.overlap == Overlap::PAIR_FORWARD;
}

bool is_dual(const SearchLayout& layout) {
  return layout.pipeline > 1 && layout.schedule == ParallelConfig::Pipeline::DUALPIPE;
}

}  // namespace

LayoutBounds::LayoutBounds(const SearchSpace& space, const std::vector<SearchPoint>& points, StagePlays& plays)
    : space_(space), points_(points), plays_(plays) {
  const SearchLayout& any = points.front().layout;
  compute_ = plan_layout(space.config_of(any), space.cluster_of(any)).compute;
  const ModelConfig& model = space.config().model();
  typical_layer_ = model.layers() - 1;
  ModelConfig shorter = model;
  shorter.set_layers(model.layers() + 1);
  const double layer = static_cast<double>(count_parameters(shorter).total - count_parameters(model).total);
  if (model.has_moe()) {
    expert_parameters_ = 3.0 * static_cast<double>(model.moe().num_experts() * model.hidden() * model.moe().ffn());
  }
  other_parameters_ = layer - expert_parameters_;
  dense_parameters_ = other_parameters_;
  if (!model.has_moe() || model.moe().first_dense_layers() == 0) return;
  ModelConfig fewer = model;
  fewer.mutable_moe()->set_first_dense_layers(model.moe().first_dense_layers() - 1);
  dense_parameters_ = layer - static_cast<double>(count_parameters(fewer).total - count_parameters(model).total);
}

// What a microbatch does in a layer does not depend on how many others do the same: the fewest ranks will do.
PlayedPass LayoutBounds::play(const SearchPoint& point) {
  const SearchLayout& knobs = point.layout;
  const int node = space_.cluster().gpus_per_node();
  int ranks = std::lcm(knobs.tensor, knobs.expert * knobs.expert_tensor);
  if (ranks > node) ranks = std::lcm(ranks, node);
  if (point.stage_ranks() % ranks != 0) ranks = point.stage_ranks();
  PlannedLayout layout;
  layout.data = point.data;
  layout.microbatches = point.microbatches;
  layout.overlap = Overlap::OFF;
  const Config stage = stage_config(space_.config_of(knobs), space_.cluster(), layout);
  return plays_.pass({.config = stage,
                      .cluster = space_.cluster(),
                      .speeds = plays_.speeds(),
                      .num_ranks = ranks,
                      .compute = compute_,
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
    const int64_t dense = model.has_moe() ? dense_layers(model, part) : 0;
    Stage stage;
    stage.layers = part.num_layers - dense;
    stage.expert_layers = static_cast<double>(stage.layers);
    stage.parameters =
        static_cast<double>(stage.layers) * other_parameters_ + static_cast<double>(dense) * dense_parameters_;
    if (part.embedding) stage.parameters += static_cast<double>(counts.embedding);
    if (part.head) {
      const auto depth = static_cast<double>(model.mtp().depth());
      stage.expert_layers += depth;
      stage.parameters += static_cast<double>(counts.head + counts.mtp) - depth * expert_parameters_;
    }
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
  layer.kept_activations =
      tokens * static_cast<double>(config.data().seq_len() * config.model().hidden()) * compute_bytes(config);
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
  const int expert_ranks = layout.expert * layout.expert_tensor;
  // Weights and gradients; masters and moments of ZeRO's share.
  constexpr double kGradientBytes = 4;
  const double whole_bytes = compute_bytes(space_.config()) + kGradientBytes;
  const double share_bytes = space_.config().precision().moments() == PrecisionConfig::MOMENTS_BF16 ? 8 : 12;
  const auto state = [&](const Stage& stage) {
    const double experts = stage.expert_layers * expert_parameters_;
    return whole_bytes * (stage.parameters / layout.tensor + experts / expert_ranks);
  };
  const auto shares = [&](const Stage& stage) {
    return share_bytes * (stage.parameters + stage.expert_layers * expert_parameters_) / point.stage_ranks();
  };
  for (size_t s = 0; s < all.size(); ++s) {
    const Stage& other = all[all.size() - 1 - s];
    double held = 1, layers = static_cast<double>(all[s].layers), bytes = state(all[s]) + shares(all[s]);
    if (layout.pipeline > 1) {
      held = microbatches_held(layout.schedule, layout.pipeline, static_cast<int>(s),
                               layout.overlap == Overlap::PAIR_FORWARD_BACKWARD);
      held = std::min(held, static_cast<double>(point.microbatches));
    }
    if (is_dual(layout)) {
      bytes = state(all[s]) + state(other) + (shares(all[s]) + shares(other)) / 2;
      layers = (layers + static_cast<double>(other.layers)) / 2;
    }
    bytes += held * layers * layer.kept_activations;
    if (bytes <= bound.memory_bytes) continue;
    bound.memory_bytes = bytes;
    // Two lanes have two of what passes need besides.
    bound.memory_guess = bytes + (in_pairs(layout) ? 2 : 1) * layer.beside_bytes;
  }
}

}  // namespace shoal
