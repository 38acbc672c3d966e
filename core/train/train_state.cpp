// core/train/train_state.cpp: bucket shards as pieces of global tensors, both ways.
#include "core/train/train_state.h"

#include <algorithm>
#include <string>

#include "core/base/checksum.h"
#include "kernels/elementwise.h"

namespace shoal {

namespace {

Sharding full_sharding(const ParameterSpec& spec) {
  return spec.sharding.dims.empty() ? whole_tensor(spec.shape) : spec.sharding;
}

// What this rank's shard of a bucket holds of each of its parameters, once a kind of state.
void add_bucket(const Bucket& bucket, const AdamwOptimizer::ShardState& state, std::vector<StatePiece>& pieces) {
  const int64_t shard_begin = bucket.shard_begin(), shard_end = shard_begin + bucket.shard;
  for (const BucketEntry& entry : bucket.entries) {
    const ParameterSpec& spec = entry.parameter->spec();
    const int64_t begin = std::max(shard_begin, entry.offset);
    const int64_t end = std::min(shard_end, entry.offset + spec.shape.numel());
    if (begin >= end) continue;
    const auto add = [&](const char* suffix, const Tensor& shard) {
      pieces.push_back({.name = spec.name + suffix,
                        .sharding = full_sharding(spec),
                        .begin = begin - entry.offset,
                        .values = shard.rows(begin - shard_begin, end - begin)});
    };
    add("", state.master);
    add("/m", state.m);
    add("/v", state.v);
  }
}

void add_residuals(const Bucket& bucket, size_t index, int rank, std::vector<StatePiece>& pieces) {
  for (size_t use = 0; use < bucket.residuals.size(); ++use) {
    const Tensor& residual = bucket.residuals[use];
    pieces.push_back({.name = fmt::format("residual/rank-{}/bucket-{}/use-{}", rank, index, use),
                      .sharding = whole_tensor(residual.shape()),
                      .begin = 0,
                      .values = residual});
  }
}

bool is_residual(const StatePiece& piece) { return piece.name.starts_with("residual/"); }
bool is_moment(const StatePiece& piece) { return piece.name.ends_with("/m") || piece.name.ends_with("/v"); }

// Router biases: one rank saves them, all read them.
void add_biases(ModelRuntime& runtime, std::vector<StatePiece>& pieces) {
  for (const Router* router : runtime.model().routers()) {
    if (!router->has_bias()) continue;
    pieces.push_back({.name = bias_name(*router),
                      .sharding = whole_tensor(router->bias().shape()),
                      .begin = 0,
                      .values = router->bias()});
  }
}

std::vector<StatePiece> all_pieces(ModelRuntime& runtime, const AdamwOptimizer& optimizer, bool with_biases) {
  std::vector<StatePiece> pieces;
  const std::vector<Bucket>& buckets = runtime.buckets().buckets();
  const int rank = runtime.mesh().world().rank();
  for (size_t i = 0; i < buckets.size(); ++i) {
    add_bucket(buckets[i], optimizer.shards()[i], pieces);
    add_residuals(buckets[i], i, rank, pieces);
  }
  if (with_biases) add_biases(runtime, pieces);
  return pieces;
}

void read_piece(const NativeCheckpoint& checkpoint, const StatePiece& piece, Allocator& host) {
  if (piece.values.device() == DeviceKind::kCpu) return checkpoint.read(piece);
  StatePiece read = piece;
  read.values = Tensor::empty(piece.values.shape(), piece.values.dtype(), host, MemoryKind::kWorkspace);
  checkpoint.read(read);
  copy_elements(piece.values, read.values);
}

bool same_layout(const SavedLayout& a, const SavedLayout& b) { return a.SerializeAsString() == b.SerializeAsString(); }

}  // namespace

std::vector<StatePiece> state_pieces(ModelRuntime& runtime, const AdamwOptimizer& optimizer) {
  return all_pieces(runtime, optimizer, runtime.mesh().world().rank() == 0);
}

SavedLayout layout_of(ModelRuntime& runtime) {
  const ProcessMesh& mesh = runtime.mesh();
  SavedLayout layout;
  layout.set_ranks(mesh.world().size());
  layout.set_data(mesh.data().size());
  layout.set_tensor(mesh.tensor().size());
  layout.set_expert(mesh.expert().size());
  layout.set_expert_tensor(mesh.expert_tensor().size());
  layout.set_compute(std::string(name_of(runtime.options().compute)));
  std::string buckets;
  for (const Bucket& bucket : runtime.buckets().buckets()) {
    buckets += fmt::format("{} {} {} {};", bucket.entries.front().parameter->spec().name, bucket.entries.size(),
                           bucket.padded, bucket.residuals.size());
  }
  layout.set_buckets(xxh3_64(buckets.data(), static_cast<int64_t>(buckets.size())));
  return layout;
}

RestoreNotes restore_state(ModelRuntime& runtime, AdamwOptimizer& optimizer, const NativeCheckpoint& checkpoint) {
  RestoreNotes notes;
  Allocator host(DeviceKind::kCpu);
  const bool same = same_layout(checkpoint.manifest().layout(), layout_of(runtime));
  for (const StatePiece& piece : all_pieces(runtime, optimizer, true)) {
    const bool stored = checkpoint.find_or_null(piece.name) != nullptr;
    if (is_residual(piece) && !(same && stored)) {
      notes.residuals = false;
      fill_zero(piece.values, runtime.stream());
    } else if (is_moment(piece) && !stored && checkpoint.manifest().progress().updates() == 0) {
      notes.moments = false;
      fill_zero(piece.values, runtime.stream());
    } else {
      read_piece(checkpoint, piece, host);
    }
  }
  optimizer.set_num_updates(checkpoint.manifest().progress().updates());
  return notes;
}

void publish_restored_state(ModelRuntime& runtime, AdamwOptimizer& optimizer) {
  std::vector<Bucket>& buckets = runtime.buckets().buckets();
  for (size_t i = 0; i < buckets.size(); ++i) {
    const Tensor& master = optimizer.shards()[i].master;
    const Tensor weights = buckets[i].weight_shard();
    if (master.dtype() != weights.dtype()) cast(weights, master, runtime.stream());
  }
  runtime.stream().wait();
  for (Bucket& bucket : buckets) runtime.buckets().post_gather(bucket);
  runtime.buckets().wait_for_weights();
}

}  // namespace shoal
