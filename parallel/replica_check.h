// parallel/replica_check.h: do the ranks that should hold the same values still hold them?
//
// Replicas drift apart by a flaky memory, a broken link, a race; nothing else in training would tell. Checked between
// backward and update: what a step computed with. Not found: an f32 master that is wrong on its one owner, which the
// next gather spreads to all alike.
#pragma once

#include <string>
#include <vector>

#include "parallel/gradient_buckets.h"

namespace shoal {

struct Replica {
  std::string name;
  Tensor values;  // dense, on the host
  Communicator* group = nullptr;
};

// The weights of all parameters, each with the ranks that share it. No gather may be in flight.
std::vector<Replica> weight_replicas(GradientBuckets& buckets);

// Collective over `world` and every replica's group: compares hashes (XXH3) of each. Throws on every rank when any
// differs, naming step, tensor, and the ranks of `world` that are not like the majority:
//   "step 12: 'layers.0.attention.q' on rank 3 differs from ranks 0, 1, 2, which should hold the same values; …"
void check_replicas(const std::vector<Replica>& replicas, int64_t step, Communicator& world, Allocator& allocator);

}  // namespace shoal
