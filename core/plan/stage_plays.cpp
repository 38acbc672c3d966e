// core/plan/stage_plays.cpp: what tells two stages apart.
#include "core/plan/stage_plays.h"

#include <algorithm>

#include "core/plan/pipeline.h"

namespace shoal {

namespace {

// All that a play reads: the config, the ranks, and the layers by kind.
std::string key_of(const StageToPlay& stage) {
  const TransformerPart& part = stage.part;
  return fmt::format("{} {} {} {} {} {} {} {} {}", stage.num_ranks, static_cast<int>(stage.compute), part.num_layers,
                     dense_layers(stage.config.model(), part), part.embedding, part.head, stage.num_microbatches,
                     stage.in_pipeline, stage.config.SerializeAsString());
}

// Microbatches of the steps that play_stage() and play_pass() run, each step twice.
constexpr double kOfStage = 2 * (4 + 6 + 3), kOfPass = 2 * (1 + 2);

}  // namespace

void StagePlays::count(const StageToPlay& stage, double microbatches) {
  const Config& config = stage.config;
  const int64_t layers = stage.part.num_layers + (stage.part.head ? config.model().mtp().depth() + 1 : 0);
  played_ += microbatches * static_cast<double>(config.train().microbatch() * config.data().seq_len() * layers) /
             config.parallel().tensor();
}

const PlayedStage& StagePlays::stage(const StageToPlay& stage) {
  const std::string key = key_of(stage);
  const auto found = stages_.find(key);
  if (found != stages_.end()) return found->second;
  count(stage, kOfStage);
  return stages_.emplace(key, play_stage(stage)).first->second;
}

const PlayedPass& StagePlays::pass(const StageToPlay& stage) {
  const std::string key = key_of(stage);
  const auto found = passes_.find(key);
  if (found != passes_.end()) return found->second;
  count(stage, kOfPass);
  return passes_.emplace(key, play_pass(stage)).first->second;
}

}  // namespace shoal
