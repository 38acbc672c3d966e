// core/model/linear_format.h: in which format the linears of one part of the network multiply.
#pragma once

#include "core/config/layer_part.h"
#include "kernels/quantize.h"

namespace shoal {

struct LinearFormat {
  bool fp8 = false;
  Tensor activation_counts, gradient_counts;  // kernels/quantize.h: QuantizeCount; undefined: not counted

  QuantizeOptions activations(TileScale scale = TileScale::kExact) const {
    return {.scale = scale, .min_amax = kMinActivationAmax, .counts = activation_counts};
  }
  QuantizeOptions gradients(TileScale scale = TileScale::kExact) const {
    return {.scale = scale, .min_amax = kMinGradientAmax, .counts = gradient_counts};
  }
};

}  // namespace shoal
