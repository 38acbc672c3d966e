// parallel/gradient_buckets.cpp: layout, storage, and the two trips of a step.
#include "parallel/gradient_buckets.h"

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "parallel/gradient_reduction.h"
#include "parallel/parameter_init.h"

namespace shoal {

namespace {

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

DType weight_dtype(const ParameterSpec& spec, DType compute) {
  return spec.always_f32 ? arithmetic_dtype(compute) : compute;
}

}  // namespace

GradientBuckets::GradientBuckets(ParameterStore& store, const ReplicaGroups& groups, DType compute,
                                 int64_t bucket_bytes, bool train, Allocator& allocator, GradientWire::Format wire)
    : allocator_(allocator), wire_(wire) {
  SHOAL_CHECK(is_floating(compute), "weights in {}", name_of(compute));
  SHOAL_CHECK(wire == GradientWire::F32 || arithmetic_dtype(compute) == DType::kF32,
              "gradients in {} do not travel as {}", name_of(arithmetic_dtype(compute)),
              GradientWire::Format_Name(wire));
  SHOAL_CHECK(bucket_bytes > 0, "buckets of {} bytes", bucket_bytes);
  lay_out(store, groups, compute, bucket_bytes);
  for (Bucket& bucket : buckets_) allocate(bucket, compute, train);
}

void GradientBuckets::lay_out(ParameterStore& store, const ReplicaGroups& groups, DType compute, int64_t bucket_bytes) {
  // The bucket that still takes parameters, by group and by "computed in f32 though the rest is not".
  std::map<std::pair<Communicator*, bool>, size_t> open;
  const int64_t capacity = bucket_bytes / size_of(DType::kF32);
  for (Parameter& parameter : store.parameters()) {
    const ParameterSpec& spec = parameter.spec();
    SHOAL_CHECK(!parameter.weight().defined(), "{} already has storage", spec.name);
    Communicator* const group = &groups.of(spec.group).bulk();
    const int64_t numel = round_up(spec.shape.numel(), kEntryAlignment);
    const bool alone = spec.num_uses > 1 || spec.grad_in_forward || numel > capacity;
    const std::pair key{group, weight_dtype(spec, compute) != compute};
    const auto current = open.find(key);
    const bool fits = !alone && current != open.end() && buckets_[current->second].padded + numel <= capacity;
    if (!fits) {
      Bucket& fresh = buckets_.emplace_back();
      fresh.kind = spec.group;
      fresh.group = group;
      fresh.grads_in_forward = spec.grad_in_forward;
      if (!alone) open[key] = buckets_.size() - 1;
    }
    Bucket& bucket = fits ? buckets_[current->second] : buckets_.back();
    bucket.entries.push_back({&parameter, bucket.padded});
    bucket.padded += numel;
  }
}

void GradientBuckets::allocate(Bucket& bucket, DType compute, bool train) {
  const ParameterSpec& first = bucket.entries.front().parameter->spec();
  bucket.padded = round_up(std::max<int64_t>(bucket.padded, 1), bucket.group->size() * kSumChunk);
  bucket.shard = bucket.padded / bucket.group->size();
  bucket.weights = Tensor::zeros({bucket.padded}, weight_dtype(first, compute), allocator_, MemoryKind::kWeights);
  if (train) {
    const auto gradient = [&] {
      return Tensor::zeros({bucket.padded}, arithmetic_dtype(compute), allocator_, MemoryKind::kGradients);
    };
    bucket.grads = gradient();
    for (int use = 1; use < first.num_uses; ++use) bucket.further_uses.push_back(gradient());
    const int64_t encoded = has_error_feedback(wire_) ? bucket.padded - bucket.shard : 0;
    for (int use = 0; encoded > 0 && use < first.num_uses; ++use) {
      bucket.residuals.push_back(Tensor::zeros({encoded}, DType::kBF16, allocator_, MemoryKind::kGradients));
    }
  }
  for (const BucketEntry& entry : bucket.entries) {
    Parameter& parameter = *entry.parameter;
    const ParameterSpec& spec = parameter.spec_;
    const auto view = [&](const Tensor& flat) {
      return flat.rows(entry.offset, spec.shape.numel()).reshape(spec.shape);
    };
    parameter.weight_ = view(bucket.weights);
    parameter.pack_for_ = train ? PackFor::kForwardAndBackward : PackFor::kForward;
    if (!train) continue;
    parameter.grads_.push_back(view(bucket.grads));
    for (const Tensor& grads : bucket.further_uses) parameter.grads_.push_back(view(grads));
    parameter.grad_written_.assign(parameter.grads_.size(), false);
    for (int use = 0; spec.is_plain() && use < spec.num_plain_uses; ++use) {
      parameter.grad_written_[static_cast<size_t>(use)] = true;  // fresh gradients are zero
    }
  }
}

void GradientBuckets::initialize(uint64_t seed, Stream& stream) {
  for (Bucket& bucket : buckets_) {
    for (const BucketEntry& entry : bucket.entries) {
      Parameter& parameter = *entry.parameter;
      parameter.check_settled();
      const int64_t numel = parameter.spec_.shape.numel();
      const Work work{
          .op = "initialize", .kind = WorkKind::kMove, .bytes = static_cast<double>(parameter.weight_.bytes())};
      const auto draw = [&] { draw_initial_values(parameter.weight_.reshape({numel}), parameter.spec_, 0, seed); };
      stream.launch(work, draw, draw);
      ++parameter.version_;
    }
  }
}

void GradientBuckets::initial_shard(const Bucket& bucket, uint64_t seed, Tensor master) const {
  SHOAL_CHECK_EQ(master.shape(), Shape{bucket.shard});
  if (master.device() == DeviceKind::kSimulated) return;
  if (master.device() == DeviceKind::kCuda) {
    Allocator host(DeviceKind::kCpu);
    const Tensor drawn = Tensor::empty(master.shape(), master.dtype(), host, MemoryKind::kWorkspace);
    initial_shard(bucket, seed, drawn);
    return copy_elements(master, drawn);
  }
  std::fill_n(master.raw(), master.bytes(), std::byte{0});
  const int64_t shard_begin = bucket.shard_begin();
  for (const BucketEntry& entry : bucket.entries) {
    const ParameterSpec& spec = entry.parameter->spec();
    const int64_t begin = std::max(shard_begin, entry.offset);
    const int64_t end = std::min(shard_begin + bucket.shard, entry.offset + spec.shape.numel());
    if (begin < end)
      draw_initial_values(master.rows(begin - shard_begin, end - begin), spec, begin - entry.offset, seed);
  }
}

// The gradients of a bucket are written from scratch.
void GradientBuckets::begin_anew(Bucket& bucket, Stream& stream) {
  SHOAL_CHECK(bucket.grads.defined(), "these buckets were built without gradients");
  SHOAL_CHECK(bucket.reduction == nullptr || bucket.reduction->done(), "the gradients of this bucket still travel");
  bucket.reduction = nullptr;
  for (const BucketEntry& entry : bucket.entries) {
    Parameter& parameter = *entry.parameter;
    parameter.grad_written_.assign(parameter.grads_.size(), false);
    for (int use = 0; parameter.spec_.is_plain() && use < parameter.spec_.num_plain_uses; ++use) {
      fill_zero(parameter.grads_[static_cast<size_t>(use)], stream);
      parameter.grad_written_[static_cast<size_t>(use)] = true;
    }
  }
}

void GradientBuckets::begin_step(Stream& stream) {
  for (Bucket& bucket : buckets_) {
    begin_anew(bucket, stream);
    bucket.rounds_summed = 0;
  }
}

void GradientBuckets::begin_round(Bucket& bucket, Stream& stream) {
  if (bucket.group->size() > 1) begin_anew(bucket, stream);
}

// [padded] each use, zeros where nobody wrote.
std::vector<Tensor> GradientBuckets::gradients_of_uses(Bucket& bucket, Stream& stream) {
  SHOAL_CHECK(bucket.grads.defined(), "these buckets were built without gradients");
  SHOAL_CHECK(bucket.reduction == nullptr, "the gradients of this bucket already travel");
  for (const BucketEntry& entry : bucket.entries) {
    const Parameter& parameter = *entry.parameter;
    for (size_t use = 0; use < parameter.grads_.size(); ++use) {
      if (!parameter.grad_written_[use]) fill_zero(parameter.grads_[use], stream);
    }
  }
  std::vector<Tensor> uses = bucket.further_uses;
  uses.insert(uses.begin(), bucket.grads);
  return uses;
}

// The sum of each use over the group into its `sums`, onto those of earlier rounds.
std::vector<OperationPtr> GradientBuckets::reduce_uses(const Bucket& bucket, const std::vector<Tensor>& uses,
                                                       const std::vector<Tensor>& sums, Stream& stream) const {
  std::vector<OperationPtr> reductions;
  for (size_t use = 0; use < uses.size(); ++use) {
    Tensor onto, residual;
    if (bucket.rounds_summed > 0) onto = bucket.partial_sums[use];
    if (!bucket.residuals.empty()) residual = bucket.residuals[use];
    reductions.push_back(wire_ == GradientWire::F32
                             ? bucket.group->reduce_scatter(sums[use], uses[use], onto)
                             : reduce_encoded(*bucket.group, sums[use], uses[use], onto, residual, wire_, stream));
  }
  return reductions;
}

void GradientBuckets::post_partial_reduction(Bucket& bucket, Stream& stream) {
  if (bucket.group->size() == 1) return;
  const std::vector<Tensor> uses = gradients_of_uses(bucket, stream);
  while (bucket.partial_sums.size() < uses.size()) {
    bucket.partial_sums.push_back(
        Tensor::empty({bucket.shard}, bucket.grads.dtype(), allocator_, MemoryKind::kGradients));
  }
  auto reductions = reduce_uses(bucket, uses, bucket.partial_sums, stream);
  ++bucket.rounds_summed;
  bucket.reduction = reduction_of_uses(std::move(reductions), {}, stream);
}

void GradientBuckets::post_reduction(Bucket& bucket, Stream& stream) {
  bucket.reduction = reduce_and_add_uses(bucket, stream);
}

void GradientBuckets::queue_reduction(Bucket& bucket, Stream& stream) {
  if (bucket.group->size() == 1) return post_reduction(bucket, stream);
  SHOAL_CHECK(bucket.reduction == nullptr, "the gradients of this bucket already travel");
  bucket.reduction = posts_.add([this, &bucket, &stream] {
    bucket.reduction = nullptr;
    post_reduction(bucket, stream);
    return bucket.reduction;
  });
}

// Null: nothing to wait for.
OperationPtr GradientBuckets::reduce_and_add_uses(Bucket& bucket, Stream& stream) {
  const std::vector<Tensor> uses = gradients_of_uses(bucket, stream);
  if (bucket.group->size() == 1) {
    for (size_t use = 1; use < uses.size(); ++use) accumulate(uses[0], uses[use], stream);
    return nullptr;
  }
  std::vector<Tensor> shards;
  for (const Tensor& whole : uses) shards.push_back(whole.rows(bucket.shard_begin(), bucket.shard));
  auto reductions = reduce_uses(bucket, uses, shards, stream);
  return reduction_of_uses(std::move(reductions), std::move(shards), stream);
}

void GradientBuckets::drop_residuals(Stream& stream) {
  for (Bucket& bucket : buckets_) {
    for (const Tensor& residual : bucket.residuals) fill_zero(residual, stream);
  }
}

void GradientBuckets::post_gather(Bucket& bucket) {
  OperationPtr gather;
  if (bucket.group->size() > 1) gather = bucket.group->all_gather(bucket.weights, bucket.weight_shard());
  await_gather(bucket, gather);
}

void GradientBuckets::queue_gather(Bucket& bucket) {
  if (bucket.group->size() == 1) return await_gather(bucket, nullptr);
  await_gather(bucket,
               posts_.add([&bucket] { return bucket.group->all_gather(bucket.weights, bucket.weight_shard()); }));
}

void GradientBuckets::await_gather(Bucket& bucket, const OperationPtr& gather) {
  for (const BucketEntry& entry : bucket.entries) {
    entry.parameter->gather_ = gather;
    ++entry.parameter->version_;
  }
}

void GradientBuckets::wait_for_weights() {
  for (Bucket& bucket : buckets_) {
    Parameter& first = *bucket.entries.front().parameter;
    if (first.gather_ != nullptr) first.gather_->wait();
  }
}

}  // namespace shoal
