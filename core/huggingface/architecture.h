// core/huggingface/architecture.h: which model of Hugging Face computes what a config of ours computes.
//
//                 attention                     feed-forward
//   DeepSeek-V3   MLA                           experts by sigmoid and bias, or dense throughout
//   DeepSeek-V2   MLA                           experts by softmax, weights not normalised
//   GLM-4-MoE     GQA, q and k norm or none     experts by sigmoid and bias
//   Qwen3-MoE     GQA, q and k norm per head    experts by softmax, no shared expert
//   OLMoE         GQA, q and k norm full width  the same, every block
//   Mixtral       GQA                           the same, every block, weights normalised
//   Qwen3         GQA, q and k norm per head    dense
//   Llama         GQA                           dense
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/config/config.pb.h"

namespace shoal {

enum class HfArchitecture { kDeepseekV3, kDeepseekV2, kGlm4Moe, kQwen3Moe, kOlmoe, kMixtral, kQwen3, kLlama };

// Throws Error naming the field that no architecture has, or not together with the rest. Without `mtp`, multi-token
// prediction is not looked at.
HfArchitecture hf_architecture(const ModelConfig& model, bool mtp = true);
// By config.json's model_type; throws Error that names `file` and the types that are known.
HfArchitecture hf_architecture(const std::string& model_type, const std::string& file);

std::string_view hf_model_type(HfArchitecture architecture);  // "deepseek_v3"
std::string_view hf_class(HfArchitecture architecture);       // "DeepseekV3ForCausalLM"

// Experts are chosen with e_score_correction_bias added to their scores.
bool has_selection_bias(HfArchitecture architecture);
// A block of experts has a shared one too, always.
bool needs_shared_expert(HfArchitecture architecture);

// Width of a head of GQA.
int64_t head_dim_of(const ModelConfig& model);

}  // namespace shoal
