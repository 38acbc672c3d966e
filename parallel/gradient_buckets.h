// parallel/gradient_buckets.h: parameters laid out in flat buckets, so that gradients are reduce-scattered and weights
// gathered in few large messages (ZeRO-1, arXiv:1910.02054).
//
// A bucket holds consecutive parameters of one group and compute dtype, in forward order, each at a multiple of
// kEntryAlignment elements, up to about `bucket_bytes` of gradients. A larger parameter, one with several uses, or one
// whose gradient is written in forward, has a bucket of its own.
//   grads    [padded] f32 (f64)      this rank's sum over its microbatches (EACH_MICROBATCH: the round's only), then
//                                    (its shard of) the sum over ranks
//   weights  [padded] compute dtype
// padded = a multiple of group size * kSumChunk; rank r of the group owns elements [r * shard, (r + 1) * shard).
// Offsets do not depend on the group's size, and everything between and behind the entries stays zero. So sums over a
// bucket add the same numbers in the same order on any number of ranks.
//
// Microbatches are dealt to ranks in rounds (core/train/microbatches.h). Reduced once a step, gradients are each rank's
// sum over its microbatches, summed over ranks. Reduced after each round (post_partial_reduction), they are the sum
// over all microbatches in their global order, bitwise the same on any number of data ranks, for as many times the
// traffic.
//
// Gradients travel as they are (f32), or encoded (GradientWire, kernels/gradient_wire.h) and summed in f32 by the rank
// that owns the shard. Its own part of the sum never travels and is not rounded.
#pragma once

#include <memory>
#include <vector>

#include "core/config/config.pb.h"
#include "parallel/communicator.h"
#include "parallel/parameter_store.h"
#include "parallel/replica_groups.h"

namespace shoal {

// Every entry begins at a multiple of 64 bytes, in bf16 too.
constexpr int64_t kEntryAlignment = 32;

struct BucketEntry {
  Parameter* parameter = nullptr;
  int64_t offset = 0;  // elements from the bucket's start
};

struct Bucket {
  std::vector<BucketEntry> entries;
  ParameterGroup kind = ParameterGroup::kEveryRank;
  Communicator* group = nullptr;  // ranks that hold the same values of these parameters
  bool grads_in_forward = false;  // ParameterSpec::grad_in_forward
  int64_t padded = 0;
  int64_t shard = 0;                 // padded / group size
  Tensor grads;                      // undefined when nothing is trained; so are the next
  std::vector<Tensor> further_uses;  // [padded] each: gradients of uses 1, 2, … of a shared parameter
  std::vector<Tensor> partial_sums;  // [shard] each use: over earlier rounds and all ranks; made when first needed
  int64_t rounds_summed = 0;         // in partial_sums, this step
  // [padded - shard] bf16 each use, with error feedback: what encoding the other ranks' shards has lost so far.
  std::vector<Tensor> residuals;
  Tensor weights;
  OperationPtr reduction;  // in flight, or null

  int64_t shard_begin() const { return shard * group->rank(); }
  Tensor grad_shard() const { return grads.rows(shard_begin(), shard); }
  Tensor weight_shard() const { return weights.rows(shard_begin(), shard); }
};

class GradientBuckets {
 public:
  // Gives every parameter of the store its views; the store and the groups must outlive this. `train` false: no
  // gradients, and weights packed for forward only (generation, evaluation). `wire` is F32 where gradients are f64.
  GradientBuckets(ParameterStore& store, const ReplicaGroups& groups, DType compute, int64_t bucket_bytes, bool train,
                  Allocator& allocator, GradientWire::Format wire = GradientWire::F32);
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  std::vector<Bucket>& buckets() { return buckets_; }
  const std::vector<Bucket>& buckets() const { return buckets_; }

  // Fills the weights from (seed, name, element), see parameter_init.h. No communication: every rank draws them all.
  void initialize(uint64_t seed, Stream& stream);
  // The f32 (f64) initial values of this rank's shard, for the optimizer's master copy: never read back from bf16.
  //   master [shard]
  void initial_shard(const Bucket& bucket, uint64_t seed, Tensor master) const;

  // Start of a step: first uses of kPlain parameters are zeroed, the others marked "first GEMM overwrites".
  void begin_step(Stream& stream);
  // Collective. After any round of microbatches but the step's last: posts the sum of a bucket's gradients over its
  // ranks, onto those of earlier rounds. A group of one goes on adding where it is, in the same order.
  void post_partial_reduction(Bucket& bucket, Stream& stream);
  // After post_partial_reduction, before a microbatch first writes to the bucket (grads_in_forward: its forward; else
  // its backward, so that the reduction travels behind the forward). The reduction must be complete: gradients begin
  // anew.
  void begin_round(Bucket& bucket, Stream& stream);
  // Collective. After the last round: posts the sum of a bucket's gradients over its ranks, onto those of earlier
  // rounds; when bucket.reduction is complete (or null: a group of one), grad_shard() holds it, uses of a shared
  // parameter added in order. A gradient nobody wrote counts as zero.
  void post_reduction(Bucket& bucket, Stream& stream);
  // The same, posted when its turn comes in posts(), or by whoever waits for bucket.reduction.
  void queue_reduction(Bucket& bucket, Stream& stream);
  // After a step that is skipped, on every rank: a gradient that was thrown away must not live on in what its encoding
  // lost. Losses of earlier steps go with it.
  void drop_residuals(Stream& stream);
  // Collective. Posts the gather of a bucket's updated weights; every parameter's ready() awaits it. Versions grow.
  void post_gather(Bucket& bucket);
  // The same, posted when its turn comes in posts(), or by the first reader.
  void queue_gather(Bucket& bucket);
  // Gradients and weights that nobody waits for yet, in the order in which they were queued.
  PostQueue& posts() { return posts_; }
  // Collective: posts what is queued. Blocks until no weights are travelling: before they are read outside a lane
  // (saving, comparing).
  void wait_for_weights();

 private:
  void lay_out(ParameterStore& store, const ReplicaGroups& groups, DType compute, int64_t bucket_bytes);
  void allocate(Bucket& bucket, DType compute, bool train);
  void begin_anew(Bucket& bucket, Stream& stream);
  void await_gather(Bucket& bucket, const OperationPtr& gather);
  OperationPtr reduce_and_add_uses(Bucket& bucket, Stream& stream);
  std::vector<Tensor> gradients_of_uses(Bucket& bucket, Stream& stream);
  std::vector<OperationPtr> reduce_uses(const Bucket& bucket, const std::vector<Tensor>& uses,
                                        const std::vector<Tensor>& sums, Stream& stream) const;

  Allocator& allocator_;
  GradientWire::Format wire_;
  PostQueue posts_;
  std::vector<Bucket> buckets_;
};

}  // namespace shoal
