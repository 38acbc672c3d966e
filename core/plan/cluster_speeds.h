// core/plan/cluster_speeds.h: how long the GPU of a described cluster takes for an op, and its links for a message.
//
//   seconds = max((FLOPs + half_size) / (peak * of_peak), bytes / (bandwidth * MEMORY's of_peak)) + per_call
//
// by the cluster's efficiencies (cluster.proto); or by its measured ops (core/train/op_speeds.h). GROUPED_GEMM's
// half_size is that of one expert's product: many small experts reach less than few large ones.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>

#include "core/config/cluster.pb.h"
#include "core/train/op_speeds.h"
#include "core/train/step_prediction.h"
#include "parallel/link_model.h"

namespace shoal {

// What a cluster's efficiencies know an op as.
OpEfficiency::Kind efficiency_kind(const Work& work);
// Throws for integers and bytes, in which nothing is multiplied.
OpEfficiency::Precision efficiency_precision(DType dtype);

class ClusterSpeeds {
 public:
  // `cluster` must outlive it.
  explicit ClusterSpeeds(const ClusterConfig& cluster);
  ClusterSpeeds(const ClusterSpeeds&) = delete;
  ClusterSpeeds& operator=(const ClusterSpeeds&) = delete;

  // Products in a grouped one, of a rank.
  void set_local_experts(int64_t local_experts) { local_experts_ = local_experts; }
  // Throws where the GPU has no such peak, or the cluster no efficiency for it.
  double seconds(const Work& work);
  // For a step to play; refers to this.
  DeviceTimes device();
  // What was measured imitates what it was measured on; a GPU otherwise.
  DeviceKind imitated() const;
  // Measured clusters: seconds of ops that were not measured, in the last step.
  const std::map<std::string, double>& guessed_s() const;

 private:
  const OpEfficiency& efficiency(OpEfficiency::Kind kind, const Work& work) const;
  double peak_flops_per_s(const Work& work) const;
  double described_seconds(const Work& work) const;

  const ClusterConfig& cluster_;
  int64_t local_experts_ = 1;
  // By kind and precision; null: none.
  std::array<std::array<const OpEfficiency*, OpEfficiency::Precision_ARRAYSIZE>, OpEfficiency::Kind_ARRAYSIZE> rows_{};
  std::optional<OpSpeeds> measured_;
  std::optional<OpTimes> times_;
  std::map<std::string, double> none_guessed_;
};

// The ranks of a node share what all its GPUs have together.
LinkModel cluster_links(const ClusterConfig& cluster);

// A measured table as a cluster holds it, and back. Throws naming the op whose kind or precision nobody knows.
MeasuredOps measured_ops(const OpSpeeds& speeds);
OpSpeeds op_speeds(const ClusterConfig& cluster);

}  // namespace shoal
