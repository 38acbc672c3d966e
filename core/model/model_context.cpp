// core/model/model_context.cpp: init scales and names.
#include "core/model/model_context.h"

#include <cmath>

namespace shoal {

double ModelContext::residual_init_std() const {
  if (!config.scale_residual_init()) return init_std();
  return init_std() / std::sqrt(2.0 * static_cast<double>(config.layers()));
}

LinearFormat ModelContext::linear_format(LayerPart part) const {
  LinearFormat format{.fp8 = is_fp8(precision, part), .activation_counts = {}, .gradient_counts = {}};
  if (!format.fp8) return format;
  SHOAL_CHECK(compute == DType::kF32 || compute == DType::kBF16, "FP8 products of {} activations", name_of(compute));
  if (quantize_counts.defined()) {
    const Tensor counts = quantize_counts[static_cast<int64_t>(part)];
    format.activation_counts = counts[0];
    format.gradient_counts = counts[1];
  }
  return format;
}

std::string layer_prefix(int64_t layer) { return "layers." + std::to_string(layer) + "."; }

}  // namespace shoal
