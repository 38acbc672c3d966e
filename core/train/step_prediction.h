// core/train/step_prediction.h: how long a training step takes: the step itself, played on a simulated rank and links.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

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

struct StepPrediction {
  double step_s = 0;  // = the next three
  double ops_s = 0;
  double host_s = 0;    // between ops
  double waited_s = 0;  // for the wire, with nothing to run
  WireSeconds waited_by_kind{};
  std::array<double, kNumLinkClasses> busy_s{};  // of the links that this rank sends on
  WorkByOp ops;                                  // with their seconds
  MemoryUse memory;
  std::map<std::string, double> guessed_s;  // ops that the table does not name
};

// Every rank does what this one does, routing is balanced, and the step is not the first: weights that were gathered
// at the end of the one before arrive in it. The schedule is the configuration's. `device`: of the ranks, as in
// dry_run().
StepPrediction predict_step(const Config& config, const MeshSizes& sizes, const SimulatedCluster& cluster,
                            DType compute, const OpSpeeds& speeds, DeviceKind device = DeviceKind::kCpu);
std::string describe(const StepPrediction& step);

}  // namespace shoal
