// core/model/model_context.cpp: init scales and names.
#include "core/model/model_context.h"

#include <cmath>

namespace shoal {

double ModelContext::residual_init_std() const {
  if (!config.scale_residual_init()) return init_std();
  return init_std() / std::sqrt(2.0 * static_cast<double>(config.layers()));
}

std::string layer_prefix(int64_t layer) { return "layers." + std::to_string(layer) + "."; }

}  // namespace shoal
