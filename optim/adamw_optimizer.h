// optim/adamw_optimizer.h: AdamW over gradient buckets, its state sharded over the ranks that share them (ZeRO-1).
//
//   per bucket, this rank's shard      master  [shard] f32 (f64)
//                                      m, v    [shard] f32 or bf16 (f64)
//
// Weights in the master's own dtype need no second copy: the master is then the shard's view of the weights, updated in
// place. bf16 weights are roundings of f32 masters, never the other way round.
#pragma once

#include <vector>

#include "core/config/config.pb.h"
#include "parallel/gradient_buckets.h"

namespace shoal {

// Elements [begin, end) of a shard with one weight-decay rule.
struct DecaySegment {
  int64_t begin = 0;
  int64_t end = 0;
  bool decay = false;
  friend bool operator==(const DecaySegment&, const DecaySegment&) = default;
};

// Cuts a bucket's shard where the rule changes. Padding and gaps (all zeros, which AdamW leaves at zero) join the
// segment in front of them. The segments cover the shard exactly.
std::vector<DecaySegment> decay_segments(const Bucket& bucket);

class AdamwOptimizer {
 public:
  struct ShardState {
    Tensor master;
    Tensor m;
    Tensor v;
    std::vector<DecaySegment> segments;
  };

  // Draws the masters from `seed`, exactly as GradientBuckets::initialize draws the weights; moments start at zero.
  // `moments`: kF32 or kBF16 (f64 buckets have f64 moments whatever it says). `buckets` must outlive the optimizer.
  AdamwOptimizer(GradientBuckets& buckets, const OptimConfig& config, DType moments, uint64_t seed, Stream& stream);

  // Collective: one update of every bucket, in forward layer order, each gather posted as soon as its shard is new.
  // `grad_scale` is the clip factor. The reductions must be complete (global_grad_norm waits for them).
  void step(double lr, double grad_scale, Stream& stream);

  // Updates so far: a skipped step is none, and the bias corrections do not count it.
  int64_t num_updates() const { return num_updates_; }
  // After the shards' state was restored from a checkpoint of so many updates.
  void set_num_updates(int64_t num_updates) { num_updates_ = num_updates; }
  // One per bucket, in bucket order.
  const std::vector<ShardState>& shards() const { return shards_; }

 private:
  GradientBuckets& buckets_;
  OptimConfig config_;
  std::vector<ShardState> shards_;
  int64_t num_updates_ = 0;
};

}  // namespace shoal
