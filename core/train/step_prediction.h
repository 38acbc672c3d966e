// core/train/step_prediction.h: how long a training step takes: the step itself, played on a simulated rank and links.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/simulated_clock.h"
#include "core/config/config.pb.h"
#include "core/train/op_speeds.h"
#include "parallel/link_model.h"
#include "parallel/process_mesh.h"

namespace shoal {

// One rank of a cluster that is not there.
struct SimulatedCluster {
  int rank = 0;
  std::vector<int> nodes;  // of each rank
  LinkModel links;         // endless where they are not described

  int ranks_on_node() const;
};

// How long a device that is not there takes: for ops, and around each of them.
struct DeviceTimes {
  SimulatedClock::OpSeconds op_seconds;
  double between_ops_s = 0;
  std::function<void()> begin_told_step = {};  // hears when the step begins that is told
};

struct StepToPlay {
  const Config& config;  // parallel.overlap may be AUTO
  MeshSizes sizes;
  SimulatedCluster cluster;
  DType compute = DType::kF32;
  DeviceTimes device;
  DeviceKind imitated = DeviceKind::kCpu;    // what ops need besides their operands
  std::optional<TransformerPart> part = {};  // of the network: a pipeline's stage; none: all of it
};

// A set of actions that ran together.
struct PlayedSet {
  std::vector<Action> actions;
  double seconds = 0;
  double waited_s = 0;            // of them, for the wire
  int64_t activations_bytes = 0;  // that are kept behind it
  MemoryUse memory;               // peaks while it ran
};

struct StepPrediction {
  double step_s = 0;  // = the next three
  double ops_s = 0;
  double host_s = 0;    // between ops
  double waited_s = 0;  // for the wire, with nothing to run
  WireSeconds waited_by_kind{};
  std::array<double, kNumLinkClasses> busy_s{};  // of the links that this rank sends on
  WorkByOp ops;                                  // with their seconds
  double model_flops = 0;                        // the closed form's share of what they state
  int64_t rows = 0;                              // tokens of this rank's microbatches
  WireBytes sent;                                // by this rank
  std::vector<PlayedSet> sets;                   // in order; before and behind them is what happens once a step
  MemoryUse memory;
  int64_t checkpoint_bytes = 0;             // this rank's pieces of one
  std::map<std::string, double> guessed_s;  // ops that the table does not name
};

// The higher peaks of both, and what is in use in the later one.
void keep_higher(MemoryUse& kept, const MemoryUse& later);

// Plays two steps and tells the second.
StepPrediction play_step(const StepToPlay& step);

// Every rank does what this one does, routing is balanced, and the step is not the first: weights that were gathered
// at the end of the one before arrive in it. The schedule is the configuration's. `device`: of the ranks, as in
// dry_run().
StepPrediction predict_step(const Config& config, const MeshSizes& sizes, const SimulatedCluster& cluster,
                            DType compute, const OpSpeeds& speeds, DeviceKind device = DeviceKind::kCpu);
std::string describe(const StepPrediction& step);

}  // namespace shoal
