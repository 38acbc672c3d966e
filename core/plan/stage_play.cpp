// core/plan/stage_play.cpp: a few short steps, and what follows from them.
#include "core/plan/stage_play.h"

#include <algorithm>
#include <string_view>

#include "core/train/overlap_choice.h"
#include "parallel/simulated_communicator.h"

namespace shoal {

double RankStep::exposed_total_s() const {
  double total = 0;
  for (const double seconds : exposed_s) total += seconds;
  return total;
}

RankStep& RankStep::operator+=(const RankStep& other) {
  step_s += other.step_s;
  ops_s += other.ops_s;
  host_s += other.host_s;
  model_flops += other.model_flops;
  for (size_t i = 0; i < exposed_s.size(); ++i) exposed_s[i] += other.exposed_s[i];
  for (size_t i = 0; i < link_busy_s.size(); ++i) {
    link_busy_s[i] += other.link_busy_s[i];
    payload_bytes[i] += other.payload_bytes[i];
    metadata_bytes[i] += other.metadata_bytes[i];
  }
  return *this;
}

RankStep operator+(RankStep a, const RankStep& b) { return a += b; }

RankStep RankStep::operator*(double factor) const {
  RankStep result = *this;
  result.step_s *= factor;
  result.ops_s *= factor;
  result.host_s *= factor;
  result.model_flops *= factor;
  for (double& seconds : result.exposed_s) seconds *= factor;
  for (size_t i = 0; i < link_busy_s.size(); ++i) {
    result.link_busy_s[i] *= factor;
    result.payload_bytes[i] *= factor;
    result.metadata_bytes[i] *= factor;
  }
  return result;
}

namespace {

constexpr int64_t kShort = 4, kLonger = 6;

using Overlap = ParallelConfig::Overlap;

RankStep rank_step(const StepPrediction& step) {
  RankStep result{.step_s = step.step_s,
                  .ops_s = step.ops_s,
                  .host_s = step.host_s,
                  .exposed_s = step.waited_by_kind,
                  .link_busy_s = step.busy_s,
                  .payload_bytes = {},
                  .metadata_bytes = {},
                  .model_flops = step.model_flops};
  for (size_t i = 0; i < result.payload_bytes.size(); ++i) {
    result.payload_bytes[i] = static_cast<double>(step.sent.payload[i]);
    result.metadata_bytes[i] = static_cast<double>(step.sent.metadata[i]);
  }
  return result;
}

int64_t local_experts(const Config& config) {
  return config.model().has_moe() ? config.model().moe().num_experts() / config.parallel().expert() : 1;
}

// Every rank has the same number of equal microbatches.
StepPrediction play(const StageToPlay& stage, Overlap::Schedule overlap, int64_t num_microbatches) {
  Config config = stage.config;
  config.mutable_parallel()->set_overlap(overlap);
  const MeshSizes sizes = ProcessMesh::resolve(mesh_sizes(config.parallel()), stage.num_ranks);
  config.mutable_train()->set_global_batch(num_microbatches * sizes.data * config.train().microbatch());
  stage.speeds.set_local_experts(local_experts(config));
  return play_step({.config = config,
                    .sizes = sizes,
                    .cluster = {.rank = 0,
                                .nodes = simulated_nodes(stage.num_ranks, stage.cluster.gpus_per_node()),
                                .links = cluster_links(stage.cluster)},
                    .compute = stage.compute,
                    .device = stage.speeds.device(),
                    .imitated = stage.speeds.imitated(),
                    .part = stage.part});
}

MemoryByKind at_peak(const MemoryUse& use) {
  MemoryByKind memory{};
  for (size_t kind = 0; kind < memory.size(); ++kind) memory[kind] = static_cast<double>(use.at_total_peak_bytes[kind]);
  return memory;
}

double weight_gradients_s(const StepPrediction& step) {
  double seconds = 0;
  for (const auto& [op, totals] : step.ops) {
    if (op.ends_with(".backward_weight")) seconds += totals.seconds;
  }
  return seconds;
}

// By a step of three microbatches without overlap: forward, backward, forward, … The middle one is like any.
void time_passes(const StageToPlay& stage, double pair_s, PlayedStage& played) {
  constexpr int64_t kNumMicrobatches = 3;
  const StepPrediction step = play(stage, Overlap::OFF, kNumMicrobatches);
  SHOAL_CHECK_EQ(static_cast<int64_t>(step.sets.size()), 2 * kNumMicrobatches);
  played.times = {.forward_s = step.sets[2].seconds,
                  .backward_s = step.sets[3].seconds,
                  .weight_s = weight_gradients_s(step) / static_cast<double>(kNumMicrobatches),
                  .pair_s = pair_s};
  played.kept_activations = static_cast<double>(step.sets[2].activations_bytes - step.sets[1].activations_bytes);
}

// Of which a schedule with two lanes may hide some.
double waited_in_layers_s(const StepPrediction& step) {
  double seconds = 0;
  for (const WireKind kind : {WireKind::kDispatch, WireKind::kCombine, WireKind::kTensor, WireKind::kRowCounts}) {
    seconds += step.waited_by_kind[static_cast<size_t>(kind)];
  }
  return seconds;
}

}  // namespace

PlayedPass play_pass(const StageToPlay& stage) {
  const StepPrediction one = play(stage, Overlap::OFF, 1), two = play(stage, Overlap::OFF, 2);
  SHOAL_CHECK(one.sets.size() == 2 && two.sets.size() == 4);
  const auto busy_s = [](const PlayedSet& set) { return set.seconds - set.waited_s; };
  PlayedPass pass{
      .forward_s = busy_s(two.sets[2]),
      .backward_s = busy_s(two.sets[3]),
      .weight_s = weight_gradients_s(two) / 2,
      .wire_s = waited_in_layers_s(two) - waited_in_layers_s(one),
      .kept_activations = static_cast<double>(two.sets[2].activations_bytes - two.sets[1].activations_bytes)};
  const MemoryByKind peak = at_peak(two.memory);
  pass.beside_bytes = peak[static_cast<size_t>(MemoryKind::kActivations)] +
                      peak[static_cast<size_t>(MemoryKind::kWorkspace)] - pass.kept_activations;
  for (size_t i = 0; i < pass.link_busy_s.size(); ++i) pass.link_busy_s[i] = two.busy_s[i] - one.busy_s[i];
  return pass;
}

PlayedStage play_stage(const StageToPlay& stage) {
  const Overlap::Schedule overlap = stage.config.parallel().overlap();
  SHOAL_CHECK(overlap != Overlap::AUTO);
  const bool all_at_once = stage.num_microbatches <= kLonger && !stage.in_pipeline;
  const StepPrediction first = play(stage, overlap, all_at_once ? stage.num_microbatches : kShort);
  PlayedStage played;
  played.memory = at_peak(first.memory);
  played.checkpoint_bytes = first.checkpoint_bytes;
  played.guessed_s = stage.speeds.guessed_s();
  played.whole = rank_step(first);
  if (all_at_once) return played;
  const StepPrediction longer = play(stage, overlap, kLonger);
  const RankStep one_more = (rank_step(longer) + played.whole * -1.0) * (1.0 / static_cast<double>(kLonger - kShort));
  played.optimize = played.whole + one_more * -static_cast<double>(kShort);
  played.whole = played.optimize + one_more * static_cast<double>(stage.num_microbatches);
  if (!stage.in_pipeline) return played;
  MemoryUse of_passes;
  for (size_t i = 0; i + 1 < longer.sets.size(); ++i) keep_higher(of_passes, longer.sets[i].memory);
  played.pass_memory = at_peak(of_passes);
  time_passes(stage, one_more.step_s, played);
  return played;
}

}  // namespace shoal
