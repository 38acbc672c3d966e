// core/config/layer_part.cpp: what the config says of a part.
#include "core/config/layer_part.h"

namespace shoal {

std::string_view name_of(LayerPart part) {
  switch (part) {
    case LayerPart::kAttention: return "attention";
    case LayerPart::kDenseFfn: return "dense_ffn";
    case LayerPart::kExperts: return "experts";
    case LayerPart::kSharedExpert: return "shared_expert";
  }
  return "?";
}

bool has_part(const ModelConfig& model, LayerPart part) {
  switch (part) {
    case LayerPart::kAttention: return true;
    case LayerPart::kDenseFfn: return !model.has_moe() || model.moe().first_dense_layers() > 0;
    case LayerPart::kExperts: return model.has_moe();
    case LayerPart::kSharedExpert: return model.has_moe() && model.moe().num_shared_experts() > 0;
  }
  return false;
}

bool is_fp8(const PrecisionConfig& precision, LayerPart part) {
  const LinearPrecision& of = precision.of();
  const auto chosen = [&](bool has, LinearPrecision::Format format) {
    return (has ? format : precision.linear()) == LinearPrecision::FP8;
  };
  switch (part) {
    case LayerPart::kAttention: return chosen(of.has_attention(), of.attention());
    case LayerPart::kDenseFfn: return chosen(of.has_dense_ffn(), of.dense_ffn());
    case LayerPart::kExperts: return chosen(of.has_experts(), of.experts());
    case LayerPart::kSharedExpert: return chosen(of.has_shared_expert(), of.shared_expert());
  }
  return false;
}

}  // namespace shoal
