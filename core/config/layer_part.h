// core/config/layer_part.h: the parts of a network whose linears have a format of their own (LinearPrecision).
#pragma once

#include <string_view>

#include "core/config/config.pb.h"

namespace shoal {

enum class LayerPart { kAttention, kDenseFfn, kExperts, kSharedExpert };
constexpr int kNumLayerParts = 4;
std::string_view name_of(LayerPart part);

bool has_part(const ModelConfig& model, LayerPart part);

// Whether a part's linears multiply in FP8; asked of a part that the network has not, what they would do.
bool is_fp8(const PrecisionConfig& precision, LayerPart part);

}  // namespace shoal
