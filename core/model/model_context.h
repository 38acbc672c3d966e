// core/model/model_context.h: what every layer of one model is built from.
#pragma once

#include <string>

#include "core/config/config.pb.h"
#include "core/model/linear_format.h"
#include "parallel/parameter_store.h"
#include "parallel/process_mesh.h"
#include "parallel/tensor_parallel.h"

namespace shoal {

struct ModelContext {
  const ModelConfig& config;
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
