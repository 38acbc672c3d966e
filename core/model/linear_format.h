// core/model/linear_format.h: in which format the linears of one part of the network multiply.
#pragma once

#include <string_view>

#include "core/config/config.pb.h"
#include "kernels/quantize.h"

namespace shoal {

// The parts that config's LinearPrecision names.
enum class LayerPart { kAttention, kDenseFfn, kExperts, kSharedExpert };
constexpr int kNumLayerParts = 4;
std::string_view name_of(LayerPart part);

bool has_part(const ModelConfig& model, LayerPart part);

// Whether a part's linears multiply in FP8.
bool is_fp8(const PrecisionConfig& precision, LayerPart part);

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
