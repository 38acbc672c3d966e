// core/model/model_context.h: what every layer of one model is built from.
#pragma once

#include <string>

#include "core/config/config.pb.h"
#include "core/model/linear_format.h"
#include "parallel/parameter_store.h"
#include "parallel/process_mesh.h"
#include "parallel/tensor_parallel.h"

namespace shoal {

// The part of the network that a rank builds: all of it, or a range of layers (a pipeline's stage).
struct TransformerPart {
  int64_t first_layer = 0;
  int64_t num_layers = 0;
  bool embedding = true;  // begins with tokens, else with what the stage before sends
  bool head = true;       // ends in losses, those of multi-token prediction too, else in what the next stage receives

  static TransformerPart whole(const ModelConfig& config) { return {.num_layers = config.layers()}; }
  friend bool operator==(const TransformerPart&, const TransformerPart&) = default;
};

struct ModelContext {
  const ModelConfig& config;
  TransformerPart part;
  ParameterStore& store;
  Allocator& allocator;
  const ProcessMesh& mesh;
  DType compute;         // dtype of weights and activations
  int64_t max_position;  // longest document
  ParallelConfig::Dispatch dispatch = ParallelConfig::AUTO;
  RecomputeConfig recompute = {};
  PrecisionConfig precision = {};
  Tensor quantize_counts = {};  // [kNumLayerParts, 2, kNumQuantizeCounts] f64: activations, gradients; may be undefined

  TensorParallel tensor() const { return TensorParallel(mesh.tensor()); }
  LinearFormat linear_format(LayerPart part) const;
  double init_std() const { return config.init_std(); }
  // For matrices that write into the residual stream.
  double residual_init_std() const;
};

// "layers.3."
std::string layer_prefix(int64_t layer);

}  // namespace shoal
