// core/plan/step_plan.cpp: stages played, the slowest and the fullest found.
#include "core/plan/step_plan.h"

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>
#include <utility>

namespace shoal {

namespace {

using Overlap = ParallelConfig::Overlap;

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// What a microbatch's activations, and their gradients, take from one stage to the next.
struct Hop {
  LinkClass link = LinkClass::kIntraNode;
  double bytes = 0;
  double seconds = 0;
};

Hop hop_between_stages(const Config& config, const ClusterConfig& cluster, const PlannedLayout& layout) {
  Hop hop;
  const bool leaves_node = layout.stage_ranks() >= cluster.gpus_per_node();
  hop.link = leaves_node ? LinkClass::kInterNode : LinkClass::kIntraNode;
  hop.bytes = static_cast<double>(config.train().microbatch() * config.data().seq_len() * config.model().hidden() *
                                  size_of(layout.compute)) /
              layout.tensor;
  const ClusterLink& link = leaves_node ? cluster.network() : cluster.in_node();
  hop.seconds = hop.bytes / (link.gbyte_per_s() * 1e9) + link.latency_us() * 1e-6;
  return hop;
}

// Stages with the same layers take the same; each is played once.
class StagePlayer {
 public:
  StagePlayer(const ModelConfig& model, std::function<PlayedStage(const TransformerPart&)> play)
      : dense_(model.has_moe() ? model.moe().first_dense_layers() : model.layers()), play_(std::move(play)) {}

  const PlayedStage& played(const TransformerPart& part) {
    const Key key{part.num_layers, std::clamp<int64_t>(dense_ - part.first_layer, 0, part.num_layers), part.embedding,
                  part.head};
    const auto found = played_.find(key);
    return found != played_.end() ? found->second : played_.emplace(key, play_(part)).first->second;
  }

 private:
  using Key = std::tuple<int64_t, int64_t, bool, bool>;  // layers, dense ones among them, embedding, head
  int64_t dense_;
  std::function<PlayedStage(const TransformerPart&)> play_;
  std::map<Key, PlayedStage> played_;
};

double total(const MemoryByKind& memory) {
  double bytes = 0;
  for (const double of_kind : memory) bytes += of_kind;
  return bytes;
}

// Of a rank that holds two stages, and computes one at a time.
MemoryByKind of_both(const MemoryByKind& a, const MemoryByKind& b) {
  MemoryByKind result;
  for (size_t i = 0; i < a.size(); ++i) {
    switch (static_cast<MemoryKind>(i)) {
      case MemoryKind::kWeights:
      case MemoryKind::kGradients: result[i] = a[i] + b[i]; break;
      case MemoryKind::kWorkspace: result[i] = std::max(a[i], b[i]); break;
      default: result[i] = (a[i] + b[i]) / 2;
    }
  }
  return result;
}

// A rank of DUALPIPE has two stages, and half of the microbatches in each. ZeRO's shares are over the ranks of both.
PlayedStage both(const PlayedStage& a, const PlayedStage& b) {
  PlayedStage rank = a;
  rank.whole = (a.whole + b.whole) * 0.5;
  rank.optimize = (a.optimize + b.optimize) * 0.5;
  rank.times = {.forward_s = (a.times.forward_s + b.times.forward_s) / 2,
                .backward_s = (a.times.backward_s + b.times.backward_s) / 2,
                .weight_s = (a.times.weight_s + b.times.weight_s) / 2,
                .pair_s = (a.times.pair_s + b.times.pair_s) / 2};
  rank.memory = of_both(a.memory, b.memory);
  rank.pass_memory = of_both(a.pass_memory, b.pass_memory);
  rank.kept_activations = (a.kept_activations + b.kept_activations) / 2;
  rank.checkpoint_bytes = (a.checkpoint_bytes + b.checkpoint_bytes) / 2;
  return rank;
}

class StepPlanner {
 public:
  StepPlanner(const Config& config, const ClusterConfig& cluster) : cluster_(cluster), speeds_(cluster) {
    plan_.layout = plan_layout(config, cluster);
    config_ = stage_config(config, cluster, plan_.layout);
  }

  StepPlan plan() {
    const int stages = plan_.layout.pipeline;
    plan_.has_closed_forms = stages > 1;
    plan_.stages = divide_layers(config_.model(), config_.data().seq_len(), stages);
    StagePlayer player(config_.model(), [&](const TransformerPart& part) { return play(part); });
    std::vector<PlayedStage> ranks;
    for (size_t s = 0; s < plan_.stages.size(); ++s) {
      const PlayedStage& played = player.played(plan_.stages[s]);
      if (!is_dual_pipe()) {
        ranks.push_back(played);
        continue;
      }
      ranks.push_back(both(played, player.played(plan_.stages[plan_.stages.size() - 1 - s])));
      if (s == 0 || s + 1 == plan_.stages.size()) share_embedding(ranks.back());
    }
    find_time(ranks);
    find_memory(ranks);
    return plan_;
  }

 private:
  bool is_dual_pipe() const {
    return plan_.layout.pipeline > 1 && plan_.layout.pipeline_schedule == ParallelConfig::Pipeline::DUALPIPE;
  }
  bool runs_pairs() const { return plan_.layout.overlap == Overlap::PAIR_FORWARD_BACKWARD; }

  PlayedStage play(const TransformerPart& part) {
    return play_stage({.config = config_,
                       .cluster = cluster_,
                       .speeds = speeds_,
                       .num_ranks = plan_.layout.stage_ranks(),
                       .compute = plan_.layout.compute,
                       .part = part,
                       .num_microbatches = plan_.layout.microbatches,
                       .in_pipeline = plan_.layout.pipeline > 1});
  }

  // A rank with the first and the last stage has the embedding once, whoever reads it. (Each use has a gradient of its
  // own.)
  void share_embedding(PlayedStage& rank) const {
    const ModelConfig& model = config_.model();
    if (!model.tie_embeddings() && model.mtp().depth() == 0) return;
    const double bytes =
        static_cast<double>(model.vocab() * model.hidden() * size_of(plan_.layout.compute)) / plan_.layout.tensor;
    for (MemoryByKind* memory : {&rank.memory, &rank.pass_memory}) {
      (*memory)[static_cast<size_t>(MemoryKind::kWeights)] -= bytes;
    }
  }

  void find_time(const std::vector<PlayedStage>& ranks) {
    const auto slowest = std::ranges::max_element(ranks, {}, [](const PlayedStage& rank) { return rank.whole.step_s; });
    plan_.slowest_stage = static_cast<int>(slowest - ranks.begin());
    plan_.rank = slowest->whole;
    plan_.optimize_s = slowest->optimize.step_s;
    plan_.guessed_s = slowest->guessed_s;
    plan_.pass = slowest->times;
    if (plan_.has_closed_forms) add_other_stages(mean_times(ranks));
    plan_.step_s = plan_.rank.step_s + plan_.unpaired_s + plan_.bubble_s;
  }

  static StageTimes mean_times(const std::vector<PlayedStage>& ranks) {
    StageTimes mean;
    const double share = 1 / static_cast<double>(ranks.size());
    for (const PlayedStage& rank : ranks) {
      mean.forward_s += share * rank.times.forward_s;
      mean.backward_s += share * rank.times.backward_s;
      mean.weight_s += share * rank.times.weight_s;
      mean.pair_s += share * rank.times.pair_s;
    }
    return mean;
  }

  // `times`: of the mean stage: a microbatch that others wait for passes all of them.
  void add_other_stages(StageTimes times) {
    const PlannedLayout& layout = plan_.layout;
    const Hop hop = hop_between_stages(config_, cluster_, layout);
    times.forward_s += hop.seconds;
    times.backward_s += hop.seconds;
    plan_.bubble_s = pipeline_bubble_s(layout.pipeline_schedule, layout.pipeline, times);
    if (runs_pairs()) {
      // One of each is alone without other stages too.
      const int alone = passes_alone(layout.pipeline_schedule, layout.pipeline) - 1;
      plan_.unpaired_s = alone * (plan_.pass.forward_s + plan_.pass.backward_s - plan_.pass.pair_s);
    }
    const bool at_an_end = plan_.slowest_stage == 0 || plan_.slowest_stage + 1 == layout.pipeline;
    const double hops = at_an_end ? 1 : 2;  // sent: forward, backward
    plan_.rank.payload_bytes[static_cast<size_t>(hop.link)] +=
        hops * hop.bytes * static_cast<double>(layout.microbatches);
  }

  void find_memory(const std::vector<PlayedStage>& ranks) {
    const GpuConfig& gpu = cluster_.gpu();
    plan_.memory_limit_bytes = (gpu.memory_gib() - gpu.reserved_gib()) * kGib;
    for (size_t s = 0; s < ranks.size(); ++s) {
      plan_.checkpoint_bytes_per_rank = std::max(plan_.checkpoint_bytes_per_rank, ranks[s].checkpoint_bytes);
      const MemoryByKind in_passes = memory_in_passes(ranks[s], static_cast<int>(s));
      const MemoryByKind& memory = total(in_passes) > total(ranks[s].memory) ? in_passes : ranks[s].memory;
      if (total(memory) <= plan_.memory_bytes) continue;
      plan_.memory = memory;
      plan_.memory_bytes = total(memory);
      plan_.fullest_stage = static_cast<int>(s);
    }
  }

  // With all the microbatches that a stage of a pipeline holds; nothing without a pipeline.
  MemoryByKind memory_in_passes(const PlayedStage& rank, int stage) const {
    if (!plan_.has_closed_forms) return {};
    const PlannedLayout& layout = plan_.layout;
    const int held = microbatches_held(layout.pipeline_schedule, layout.pipeline, stage, runs_pairs());
    MemoryByKind memory = rank.pass_memory;
    memory[static_cast<size_t>(MemoryKind::kActivations)] +=
        static_cast<double>(std::min<int64_t>(held, layout.microbatches) - 1) * rank.kept_activations;
    return memory;
  }

  const ClusterConfig& cluster_;
  Config config_;  // of one stage
  ClusterSpeeds speeds_;
  StepPlan plan_;
};

}  // namespace

StepPlan plan_step(const Config& config, const ClusterConfig& cluster) { return StepPlanner(config, cluster).plan(); }

}  // namespace shoal
