// core/train/model_runtime.cpp: built in the order declare, allocate, fill.
#include "core/train/model_runtime.h"

#include <set>

#include "parallel/gather_shards.h"
#include "parallel/replica_check.h"

namespace shoal {

DType resolve_compute(const PrecisionConfig& precision, DeviceKind device) {
  switch (precision.compute()) {
    case PrecisionConfig::BF16: return DType::kBF16;
    case PrecisionConfig::F32: return DType::kF32;
    case PrecisionConfig::AUTO: break;
  }
  return device == DeviceKind::kCuda || cpu_has_fast_bf16() ? DType::kBF16 : DType::kF32;
}

DType resolve_compute(const PrecisionConfig& precision, DeviceKind device, Communicator& world) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor ranks = Tensor::empty({1}, DType::kI64, allocator, MemoryKind::kWorkspace);
  const DType mine = resolve_compute(precision, device);
  ranks.copy_from<int64_t>({mine == DType::kBF16 ? 1 : 0});
  wait(world.all_reduce(ranks));
  return ranks.data<int64_t>()[0] == world.size() ? DType::kBF16 : DType::kF32;
}

namespace {

// A block computed again as a whole keeps nothing in between that could be computed a third time.
RecomputeConfig needed(RecomputeConfig recompute) {
  if (!recompute.block()) return recompute;
  recompute.clear_norms();
  recompute.clear_mla_up();
  return recompute;
}

}  // namespace

namespace {

bool has_fp8(const PrecisionConfig& precision) {
  for (int part = 0; part < kNumLayerParts; ++part) {
    if (is_fp8(precision, static_cast<LayerPart>(part))) return true;
  }
  return false;
}

constexpr int64_t kNumCountTables = kNumLayerParts * 2;

std::vector<double> fresh_counts() {
  std::vector<double> counts;
  for (int64_t table = 0; table < kNumCountTables; ++table) {
    const std::vector<double> fresh = fresh_quantize_counts();
    counts.insert(counts.end(), fresh.begin(), fresh.end());
  }
  return counts;
}

}  // namespace

ModelRuntime::ModelRuntime(const ModelConfig& config, const ProcessMesh& mesh, Allocator& allocator,
                           const RuntimeOptions& options)
    : config_(config),
      options_(options),
      mesh_(mesh),
      allocator_(allocator),
      stream_(allocator_),
      lanes_{Lane(stream_, 0), Lane(stream_, 1)},
      store_(options.perturb_init) {
  if (has_fp8(options.precision)) {
    quantize_counts_ = stream_.workspace({kNumLayerParts, 2, kNumQuantizeCounts}, DType::kF64);
    quantize_counts_.copy_from(fresh_counts());
  }
  const ModelContext context{.config = config_,
                             .store = store_,
                             .allocator = allocator_,
                             .mesh = mesh_,
                             .compute = options.compute,
                             .max_position = options.max_position,
                             .dispatch = options.dispatch,
                             .recompute = needed(options.recompute),
                             .precision = options.precision,
                             .quantize_counts = quantize_counts_};
  model_ = std::make_unique<Transformer>(context, TransformerPart::whole(config_));
  buckets_ = std::make_unique<GradientBuckets>(store_, mesh_.replicas(), options.compute, options.bucket_bytes,
                                               options.train, allocator_, options.precision.gradient_wire());
  for (Lane& lane : lanes_) lane.set_bulk(&buckets_->posts());
}

std::vector<double> ModelRuntime::take_quantize_counts() {
  if (!quantize_counts_.defined()) return {};
  std::vector<double> counts = read_to_host<double>(quantize_counts_, stream_, fresh_counts);
  quantize_counts_.copy_from(fresh_counts());
  return counts;
}

void ModelRuntime::initialize(uint64_t seed) { buckets_->initialize(seed, stream_); }

std::string bias_name(const Router& router) { return router.name() + ".bias"; }

namespace {

Task<void> await_all_weights(ParameterStore& store, Lane& lane) {
  for (Parameter& parameter : store.parameters()) co_await parameter.ready(lane);
}

}  // namespace

// On a GPU files are read and written by way of host memory.
Allocator& ModelRuntime::host() { return allocator_.device() == DeviceKind::kCuda ? host_allocator_ : allocator_; }

Tensor ModelRuntime::host_like(const Tensor& x) {
  if (x.device() != DeviceKind::kCuda) return x;
  return Tensor::empty(x.shape(), x.dtype(), host_allocator_, MemoryKind::kWorkspace);
}

Tensor ModelRuntime::on_host(const Tensor& x) {
  const Tensor copy = host_like(x);
  if (x.device() == DeviceKind::kCuda) copy_elements(copy, x);
  return copy;
}

// To a tensor of this rank's, which holds what `sharding` says (without dims: all).
void ModelRuntime::load_tensor(const TensorSource& source, const std::string& name, const Sharding& sharding,
                               const Tensor& to) {
  const auto found = source.tensors().find(name);
  if (found == source.tensors().end()) {
    fail("{}: has no tensor \"{}\" among its {}; it belongs to a model of another config", source.description(), name,
         source.tensors().size());
  }
  const bool whole = sharding.whole();
  const Shape expected = whole ? to.shape() : sharding.global_shape();
  if (found->second.shape != expected) {
    fail("{}: tensor \"{}\": expected shape {}, found {}; it belongs to a model of another config",
         source.description(), name, expected, found->second.shape);
  }
  const Tensor mine = host_like(to);
  if (whole) {
    source.read(name, 0, mine);
  } else {
    const Tensor all = Tensor::empty(expected, mine.dtype(), host(), MemoryKind::kWorkspace);
    source.read(name, 0, all);
    take_shard(mine, sharding, all);
  }
  if (mine.device() != to.device()) copy_elements(to, mine);
}

void ModelRuntime::load(const TensorSource& source, const std::string& config_name) {
  std::set<std::string> expected;
  for (Parameter& parameter : store_.parameters()) {
    const ParameterSpec& spec = parameter.spec();
    load_tensor(source, spec.name, spec.sharding, parameter.weight());
    parameter.weight_changed();
    expected.insert(spec.name);
  }
  for (const Router* router : model_->routers()) {
    if (!router->has_bias()) continue;
    load_tensor(source, bias_name(*router), {}, router->bias());
    expected.insert(bias_name(*router));
  }
  for (const auto& [name, tensor] : source.tensors()) {
    if (expected.contains(name)) continue;
    fail("{} holds the tensor '{}', which the model of {} does not have: the two do not belong together",
         source.description(), name, config_name);
  }
}

void ModelRuntime::check_replicas(int64_t step) {
  if (allocator_.device() == DeviceKind::kSimulated) return;  // nothing to compare
  run_lane(lane(), await_all_weights(store_, lane()));
  std::vector<Replica> replicas = weight_replicas(*buckets_);
  for (Router* router : model_->routers()) {
    if (router->has_bias()) replicas.push_back({bias_name(*router), router->bias(), &mesh_.world()});
  }
  shoal::check_replicas(replicas, step, mesh_.world(), allocator_);
}

}  // namespace shoal
