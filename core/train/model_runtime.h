// core/train/model_runtime.h: one rank's model with everything it runs on: what train, evaluate, generate, bench and
// --dry-run share.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "core/base/lane.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/config.pb.h"
#include "core/model/transformer.h"
#include "parallel/gradient_buckets.h"
#include "parallel/process_mesh.h"

namespace shoal {

struct RuntimeOptions {
  DType compute = DType::kF32;  // weights and activations
  bool train = true;            // gradients too
  int64_t max_position = 0;     // longest document
  int64_t bucket_bytes = 32 << 20;
  ParallelConfig::Dispatch dispatch = ParallelConfig::AUTO;
  RecomputeConfig recompute = {};
  double perturb_init = 0;
  PrecisionConfig precision = {};  // of the linears and the wires; `compute` is resolved already
};

// What precision.compute means on this machine: AUTO takes bf16 where the device multiplies it faster than f32: on
// GPUs, and on CPUs that have instructions for it.
DType resolve_compute(const PrecisionConfig& precision, DeviceKind device = DeviceKind::kCpu);
// Collective: the same on every rank: AUTO takes bf16 where all machines do.
DType resolve_compute(const PrecisionConfig& precision, DeviceKind device, Communicator& world);

class ModelRuntime {
 public:
  // The mesh and the allocator, which says the device, must outlive the runtime. The groups' scratch comes from the
  // same allocator, so that its peak is the rank's. Weights are not set yet: initialize() or load().
  ModelRuntime(const ModelConfig& config, const ProcessMesh& mesh, Allocator& allocator, const RuntimeOptions& options);

  const ModelConfig& config() const { return config_; }
  const RuntimeOptions& options() const { return options_; }
  const ProcessMesh& mesh() const { return mesh_; }
  Allocator& allocator() { return allocator_; }
  Stream& stream() { return stream_; }
  // Two microbatches at most run together; everything else runs on the first.
  Lane& lane(int index = 0) { return lanes_[static_cast<size_t>(index)]; }
  Transformer& model() { return *model_; }
  ParameterStore& store() { return store_; }
  GradientBuckets& buckets() { return *buckets_; }

  void initialize(uint64_t seed);
  // Weights and router biases of a stored model, this rank's part of them; no messages. Throws naming the tensor that
  // is missing, too many, or of another shape than the model of `config_name` has.
  void load(const TensorSource& source, const std::string& config_name);
  // What quantisation lost since the last call, this rank, [kNumLayerParts][activations, gradients] of
  // [kNumQuantizeCounts] (kernels/quantize.h); empty where nothing is in FP8.
  std::vector<double> take_quantize_counts();
  // Collective: throws when ranks that should hold the same weights or router biases do not (replica_check.h).
  void check_replicas(int64_t step);
  // Memory that files are read into and written from: on a GPU's rank the host's, else the rank's own.
  Allocator& host();
  // x itself where it is there, else a copy.
  Tensor on_host(const Tensor& x);

 private:
  Tensor host_like(const Tensor& x);  // x itself where it is there, else empty
  void load_tensor(const TensorSource& source, const std::string& name, const Sharding& sharding, const Tensor& to);

  ModelConfig config_;
  RuntimeOptions options_;
  const ProcessMesh& mesh_;
  Allocator& allocator_;
  Allocator host_allocator_{DeviceKind::kCpu};  // used when allocator_ is a GPU's
  Stream stream_;
  std::array<Lane, 2> lanes_;
  Tensor quantize_counts_;  // [kNumLayerParts, 2, kNumQuantizeCounts] f64; undefined: nothing is in FP8
  ParameterStore store_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<GradientBuckets> buckets_;
};

// "layers.3.router.bias", in files and messages.
std::string bias_name(const Router& router);

}  // namespace shoal
