// core/train/model_runtime.h: one rank's model with everything it runs on: what train, evaluate, generate, bench and
// --dry-run share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/lane.h"
#include "core/checkpoint/final_model.h"
#include "core/config/config.pb.h"
#include "core/model/transformer.h"
#include "parallel/gradient_buckets.h"

namespace shoal {

struct RuntimeOptions {
  DType compute = DType::kF32;  // weights and activations
  bool train = true;            // gradients too
  int64_t max_position = 0;     // longest document
  int64_t bucket_bytes = 32 << 20;
};

// What precision.compute means on this machine: AUTO takes bf16 where the CPU multiplies it faster than f32.
DType resolve_compute(const PrecisionConfig& precision);

class ModelRuntime {
 public:
  // The groups and the allocator, which says the device, must outlive the runtime. The groups' scratch comes from the
  // same allocator, so that its peak is the rank's. Weights are not set yet: initialize() or load().
  ModelRuntime(const ModelConfig& config, Communicator& dense_group, Communicator& expert_group, Allocator& allocator,
               const RuntimeOptions& options);

  const ModelConfig& config() const { return config_; }
  const RuntimeOptions& options() const { return options_; }
  Allocator& allocator() { return allocator_; }
  Stream& stream() { return stream_; }
  Lane& lane() { return lane_; }
  Transformer& model() { return *model_; }
  ParameterStore& store() { return store_; }
  GradientBuckets& buckets() { return *buckets_; }

  void initialize(uint64_t seed);
  // Weights and router biases of a final model; throws naming the tensor that is missing, too many, or of another
  // shape.
  void load(const FinalModel& final_model);
  // Every weight and router bias, by global name; views that live as long as the runtime. Awaits all gathers.
  std::vector<NamedTensor> named_tensors();

 private:
  ModelConfig config_;
  RuntimeOptions options_;
  Allocator& allocator_;
  Stream stream_;
  Lane lane_;
  ParameterStore store_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<GradientBuckets> buckets_;
};

}  // namespace shoal
