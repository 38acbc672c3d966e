// optim/adamw_optimizer.cpp: shards, segments, and the update.
#include "optim/adamw_optimizer.h"

#include <algorithm>

#include "core/base/trace.h"
#include "kernels/adamw.h"

namespace shoal {

std::vector<DecaySegment> decay_segments(const Bucket& bucket) {
  const int64_t begin = bucket.shard_begin();
  const int64_t end = begin + bucket.shard;
  std::vector<DecaySegment> segments;
  for (const BucketEntry& entry : bucket.entries) {
    const ParameterSpec& spec = entry.parameter->spec();
    const int64_t from = std::max(begin, entry.offset);
    const int64_t to = std::min(end, entry.offset + spec.shape.numel());
    if (from >= to) continue;
    if (segments.empty() || segments.back().decay != spec.decay) {
      if (!segments.empty()) segments.back().end = from - begin;
      segments.push_back({segments.empty() ? 0 : from - begin, 0, spec.decay});
    }
  }
  if (segments.empty()) segments.push_back({0, 0, false});  // padding only
  segments.back().end = bucket.shard;
  return segments;
}

AdamwOptimizer::AdamwOptimizer(GradientBuckets& buckets, const OptimConfig& config, DType moments, uint64_t seed,
                               Stream& stream)
    : buckets_(buckets), config_(config) {
  SHOAL_CHECK(moments == DType::kF32 || moments == DType::kBF16, "moments in {}", name_of(moments));
  Allocator& allocator = stream.allocator();
  for (const Bucket& bucket : buckets_.buckets()) {
    const DType weights = bucket.weights.dtype();
    const bool double_precision = weights == DType::kF64;
    ShardState state;
    if (weights == DType::kF32 || double_precision) {
      state.master = bucket.weight_shard();
    } else {
      state.master = Tensor::empty({bucket.shard}, DType::kF32, allocator, MemoryKind::kOptimizer);
      buckets_.initial_shard(bucket, seed, state.master);
    }
    const DType moment_dtype = double_precision ? DType::kF64 : moments;
    state.m = Tensor::zeros({bucket.shard}, moment_dtype, allocator, MemoryKind::kOptimizer);
    state.v = Tensor::zeros({bucket.shard}, moment_dtype, allocator, MemoryKind::kOptimizer);
    state.segments = decay_segments(bucket);
    shards_.push_back(std::move(state));
  }
}

void AdamwOptimizer::step(double lr, double grad_scale, Stream& stream) {
  const TraceSection traced(stream.trace(), TraceTrack::kOptimizer, "optimizer");
  // A parameter that no forward read has nobody else who awaited its last gather, which reads what is written here.
  buckets_.wait_for_weights();
  ++num_updates_;
  AdamwStep update{.lr = lr,
                   .beta1 = config_.beta1(),
                   .beta2 = config_.beta2(),
                   .eps = config_.eps(),
                   .grad_scale = grad_scale,
                   .step = num_updates_};
  for (size_t i = 0; i < shards_.size(); ++i) {
    Bucket& bucket = buckets_.buckets()[i];
    const ShardState& state = shards_[i];
    SHOAL_CHECK(bucket.reduction == nullptr || bucket.reduction->done(), "gradients of a bucket are still travelling");
    const bool master_is_weight = state.master.dtype() == bucket.weights.dtype();
    const Tensor weights = bucket.weight_shard();
    const Tensor grads = bucket.grad_shard();
    for (const DecaySegment& segment : state.segments) {
      const int64_t count = segment.end - segment.begin;
      const auto part = [&](const Tensor& shard) { return shard.rows(segment.begin, count); };
      update.weight_decay = segment.decay ? config_.weight_decay() : 0;
      adamw(part(state.master), part(state.m), part(state.v), master_is_weight ? Tensor() : part(weights), part(grads),
            update, stream);
    }
    buckets_.queue_gather(bucket);
    // Nothing of the next step can begin without the first.
    if (i == 0) buckets_.posts().post_one();
  }
}

}  // namespace shoal
