// core/plan/stage_play.h: a part of the network as one rank of a cluster plays it, for any number of microbatches.
//
// Everything that grows with the microbatches does so evenly once they follow each other, so two short steps tell any
// longer one: of n microbatches, n at least 4,   value(n) = value(4) + (n - 4) / 2 * (value(6) - value(4)).
#pragma once

#include <array>
#include <map>
#include <string>

#include "core/plan/cluster_speeds.h"
#include "core/plan/pipeline.h"

namespace shoal {

// What a rank does in a step, or a share of it.
struct RankStep {
  double step_s = 0;  // = the next three
  double ops_s = 0;
  double host_s = 0;                                     // between ops
  WireSeconds exposed_s{};                               // waiting for the wire, by kind
  std::array<double, kNumLinkClasses> link_busy_s{};     // of the links that it sends on
  std::array<double, kNumLinkClasses> payload_bytes{};   // sent
  std::array<double, kNumLinkClasses> metadata_bytes{};  // counts, choices
  double model_flops = 0;                                // stated by the ops, the closed form's share

  double exposed_total_s() const;
  RankStep& operator+=(const RankStep& other);
  RankStep operator*(double factor) const;
};
RankStep operator+(RankStep a, const RankStep& b);

using MemoryByKind = std::array<double, kNumMemoryKinds>;

struct PlayedStage {
  RankStep whole;         // of all microbatches, by parallel.overlap, as if there were no other stage
  RankStep optimize;      // what one microbatch more or less does not change: reduction of gradients, optimizer, losses
  StageTimes times;       // of a microbatch; zeros where nobody asked
  MemoryByKind memory{};  // at the peak of a step
  // For pipelines: at the peak of its passes, before the last backward sends gradients.
  MemoryByKind pass_memory{};
  double kept_activations = 0;              // bytes from a microbatch's forward to its backward; 0 where nobody asked
  int64_t checkpoint_bytes = 0;             // this rank's part of a checkpoint
  std::map<std::string, double> guessed_s;  // of one played step
};

struct StageToPlay {
  const Config& config;  // parallel.pipeline is 1: the mesh is that of the stage's ranks
  const ClusterConfig& cluster;
  ClusterSpeeds& speeds;
  int num_ranks = 1;  // of the stage
  DType compute = DType::kBF16;
  TransformerPart part;
  int64_t num_microbatches = 1;
  bool in_pipeline = false;  // `times` and `kept_activations` are wanted
};

// Rank 0 of the stage's: all others do the same.
PlayedStage play_stage(const StageToPlay& stage);

// What a microbatch takes where no other runs beside it: what no schedule can do without, and what overlap may hide.
struct PlayedPass {
  double forward_s = 0;   // ops, and the host between them
  double backward_s = 0;  // likewise, with weight gradients
  double weight_s = 0;    // of it
  double wire_s = 0;      // waiting inside the layers: for tokens, and for what tensor ranks gather and sum
  std::array<double, kNumLinkClasses> link_busy_s{};
  double kept_activations = 0;  // bytes, from its forward to its backward
  double beside_bytes = 0;      // activations and workspace at the peak, without those
};
// By steps of one and of two microbatches, without overlap; cheap beside play_stage().
PlayedPass play_pass(const StageToPlay& stage);

}  // namespace shoal
