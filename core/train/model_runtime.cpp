// core/train/model_runtime.cpp: built in the order declare, allocate, fill.
#include "core/train/model_runtime.h"

#include <set>

namespace shoal {

DType resolve_compute(const PrecisionConfig& precision) {
  switch (precision.compute()) {
    case PrecisionConfig::BF16: return DType::kBF16;
    case PrecisionConfig::F32: return DType::kF32;
    case PrecisionConfig::AUTO: break;
  }
  return cpu_has_fast_bf16() ? DType::kBF16 : DType::kF32;
}

ModelRuntime::ModelRuntime(const ModelConfig& config, Communicator& dense_group, Communicator& expert_group,
                           Allocator& allocator, const RuntimeOptions& options)
    : config_(config), options_(options), allocator_(allocator), stream_(allocator_), lane_(stream_, 0) {
  const ModelContext context{.config = config_,
                             .store = store_,
                             .allocator = allocator_,
                             .compute = options.compute,
                             .max_position = options.max_position};
  model_ = std::make_unique<Transformer>(context, TransformerPart::whole(config_));
  buckets_ = std::make_unique<GradientBuckets>(store_, dense_group, expert_group, options.compute, options.bucket_bytes,
                                               options.train, allocator_);
}

void ModelRuntime::initialize(uint64_t seed) { buckets_->initialize(seed, stream_); }

namespace {

std::string bias_name(const Router& router) { return router.name() + ".bias"; }

Task<void> await_all_weights(ParameterStore& store, Lane& lane) {
  for (Parameter& parameter : store.parameters()) co_await parameter.ready(lane);
}

}  // namespace

void ModelRuntime::load(const FinalModel& final_model) {
  const SafetensorsFile& file = final_model.tensors();
  std::set<std::string> expected;
  for (Parameter& parameter : store_.parameters()) {
    file.read(parameter.spec().name, parameter.weight());
    parameter.weight_changed();
    expected.insert(parameter.spec().name);
  }
  for (Router* router : model_->routers()) {
    if (!router->has_bias()) continue;
    file.read(bias_name(*router), router->bias());
    expected.insert(bias_name(*router));
  }
  for (const StoredTensor& tensor : file.tensors()) {
    if (!expected.contains(tensor.name)) {
      fail("{} holds the tensor '{}', which the model of {} does not have: the two files do not belong together",
           file.path().string(), tensor.name, final_model.config_path().string());
    }
  }
}

std::vector<NamedTensor> ModelRuntime::named_tensors() {
  run_lane(lane_, await_all_weights(store_, lane_));
  std::vector<NamedTensor> tensors;
  for (const Parameter& parameter : store_.parameters()) {
    tensors.push_back(named(parameter.spec().name, parameter.weight()));
  }
  for (Router* router : model_->routers()) {
    if (router->has_bias()) tensors.push_back(named(bias_name(*router), router->bias()));
  }
  return tensors;
}

}  // namespace shoal
