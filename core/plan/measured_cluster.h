// core/plan/measured_cluster.h: the machine at hand as a description: ops and links as they were measured.
#pragma once

#include <string>
#include <vector>

#include "core/config/cluster.pb.h"
#include "core/train/bench_comm.h"
#include "core/train/bench_train.h"

namespace shoal {

// From the all_to_all_rows among `times`: the smallest size is the latency, what the largest takes longer the bytes.
// Throws where there are no two sizes, or ranks.
ClusterLink fit_link(const std::vector<VerbTime>& times);

// One node, a "GPU" of it for each rank; `bench.speeds` is filled. A description of more nodes needs a network.
// `memory_bytes`: what a rank can have. `times`: of one rank, none.
ClusterConfig measured_cluster(const BenchTrain& bench, const std::vector<VerbTime>& times, int64_t memory_bytes);

// As load_cluster() reads it.
std::string to_text(const ClusterConfig& cluster);

}  // namespace shoal
