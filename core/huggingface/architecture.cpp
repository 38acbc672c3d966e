// core/huggingface/architecture.cpp: one refusal after the other.
#include "core/huggingface/architecture.h"

#include <array>

#include "core/base/check.h"
#include "core/base/json_text.h"

namespace shoal {
namespace {

struct Named {
  HfArchitecture architecture;
  std::string_view model_type, class_name;
};

constexpr std::array<Named, 8> kArchitectures = {{
    {HfArchitecture::kDeepseekV3, "deepseek_v3", "DeepseekV3ForCausalLM"},
    {HfArchitecture::kDeepseekV2, "deepseek_v2", "DeepseekV2ForCausalLM"},
    {HfArchitecture::kGlm4Moe, "glm4_moe", "Glm4MoeForCausalLM"},
    {HfArchitecture::kQwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM"},
    {HfArchitecture::kOlmoe, "olmoe", "OlmoeForCausalLM"},
    {HfArchitecture::kMixtral, "mixtral", "MixtralForCausalLM"},
    {HfArchitecture::kQwen3, "qwen3", "Qwen3ForCausalLM"},
    {HfArchitecture::kLlama, "llama", "LlamaForCausalLM"},
}};

const Named& named(HfArchitecture architecture) {
  for (const Named& entry : kArchitectures) {
    if (entry.architecture == architecture) return entry;
  }
  fail("no architecture {}", static_cast<int>(architecture));
}

template <class... Args>
[[noreturn]] void refuse(const char* field, fmt::format_string<Args...> why, Args&&... args) {
  fail("model.{} cannot be expressed by an architecture of Hugging Face: {}", field,
       fmt::format(why, std::forward<Args>(args)...));
}

void check_groups(const MoeConfig& moe, RouterConfig::GroupScore wanted, const char* architecture) {
  const RouterConfig& router = moe.router();
  if (router.num_groups() > 1 && router.group_score() != wanted) {
    refuse("moe.router.group_score", "{} scores groups by {}, and this is {}", architecture,
           RouterConfig::GroupScore_Name(wanted), RouterConfig::GroupScore_Name(router.group_score()));
  }
}

// Experts by sigmoid: DeepSeek-V3's router, and GLM-4-MoE's.
void check_sigmoid(const MoeConfig& moe, const char* architecture) {
  check_groups(moe, RouterConfig::TOP2_SUM, architecture);
  if (moe.num_experts() / moe.router().num_groups() < 2) {
    refuse("moe.num_experts", "{} sums the two best experts of a group, and a group here has one", architecture);
  }
}

void check_no_bias(const RouterConfig& router) {
  if (router.selection_bias()) {
    refuse("moe.router.selection_bias", "only routers with score: SIGMOID have a bias there, and this one is SOFTMAX");
  }
}

void check_no_mtp(const ModelConfig& model, bool mtp, const char* architecture) {
  if (mtp && model.mtp().depth() > 0) {
    refuse("mtp.depth",
           "{} has no multi-token prediction; leave its blocks out (--without-mtp): they only help training",
           architecture);
  }
}

// Their config classes insist on it, even where head_dim is given.
void check_heads_divide(const ModelConfig& model, const char* architecture) {
  const int64_t heads = model.attention().heads();
  if (model.hidden() % heads != 0) {
    refuse("attention.heads", "{} wants hidden ({}) to be a multiple of the heads ({})", architecture, model.hidden(),
           heads);
  }
}

HfArchitecture mla_architecture(const ModelConfig& model, bool mtp) {
  if (!model.has_moe()) {
    check_no_mtp(model, mtp, "a DeepSeek-V3 without experts");
    return HfArchitecture::kDeepseekV3;
  }
  const MoeConfig& moe = model.moe();
  if (moe.router().score() == RouterConfig::SIGMOID) {
    check_sigmoid(moe, "DeepSeek-V3");
    return HfArchitecture::kDeepseekV3;
  }
  check_no_bias(moe.router());
  check_groups(moe, RouterConfig::MAX, "DeepSeek-V2");
  if (moe.router().normalize_topk()) {
    refuse("moe.router.normalize_topk", "DeepSeek-V2, which routes by SOFTMAX, leaves the weights as they are");
  }
  check_no_mtp(model, mtp, "DeepSeek-V2");
  check_heads_divide(model, "DeepSeek-V2");
  return HfArchitecture::kDeepseekV2;
}

HfArchitecture dense_architecture(const ModelConfig& model, bool mtp) {
  const AttentionConfig::QkNorm norm = model.attention().qk_norm();
  if (norm == AttentionConfig::FULL_WIDTH) {
    refuse("attention.qk_norm", "FULL_WIDTH is OLMoE's, which has experts, and this model is dense");
  }
  const bool llama = norm == AttentionConfig::NONE;
  check_no_mtp(model, mtp, llama ? "Llama" : "Qwen3");
  if (llama) check_heads_divide(model, "Llama");
  return llama ? HfArchitecture::kLlama : HfArchitecture::kQwen3;
}

HfArchitecture softmax_architecture(const ModelConfig& model, bool mtp) {
  const MoeConfig& moe = model.moe();
  const RouterConfig& router = moe.router();
  const AttentionConfig::QkNorm norm = model.attention().qk_norm();
  check_no_bias(router);
  const char* const family = norm == AttentionConfig::PER_HEAD     ? "Qwen3-MoE"
                             : norm == AttentionConfig::FULL_WIDTH ? "OLMoE"
                                                                   : "Mixtral";
  if (router.num_groups() > 1) refuse("moe.router.num_groups", "{} has no groups of experts", family);
  if (router.route_scale() != 1) {
    refuse("moe.router.route_scale", "{} does not scale the weights, and this is {}", family, router.route_scale());
  }
  if (moe.num_shared_experts() > 0) {
    refuse("moe.num_shared_experts", "{} has no shared expert (GQA with score: SIGMOID has, as GLM-4-MoE)", family);
  }
  check_no_mtp(model, mtp, family);
  if (norm == AttentionConfig::PER_HEAD) return HfArchitecture::kQwen3Moe;
  if (moe.first_dense_layers() > 0) {
    refuse("moe.first_dense_layers", "{} has experts in every block", family);
  }
  if (norm == AttentionConfig::FULL_WIDTH) return HfArchitecture::kOlmoe;
  if (!router.normalize_topk()) {
    refuse("moe.router.normalize_topk",
           "Mixtral always normalises the weights (with qk_norm, OLMoE and Qwen3-MoE need "
           "not)");
  }
  return HfArchitecture::kMixtral;
}

}  // namespace

HfArchitecture hf_architecture(const ModelConfig& model, bool mtp) {
  if (model.attention().kind() == AttentionConfig::MLA) return mla_architecture(model, mtp);
  if (!model.has_moe()) return dense_architecture(model, mtp);
  if (model.moe().router().score() == RouterConfig::SOFTMAX) return softmax_architecture(model, mtp);
  check_sigmoid(model.moe(), "GLM-4-MoE");
  if (model.attention().qk_norm() == AttentionConfig::FULL_WIDTH) {
    refuse("attention.qk_norm", "FULL_WIDTH is OLMoE's, which routes by SOFTMAX, and this model by SIGMOID");
  }
  return HfArchitecture::kGlm4Moe;
}

HfArchitecture hf_architecture(const std::string& model_type, const std::string& file) {
  std::string known;
  for (const Named& entry : kArchitectures) {
    if (entry.model_type == model_type) return entry.architecture;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.model_type);
  }
  fail("{}: model_type is \"{}\"; known are {}", file, shown_text(model_type), known);
}

std::string_view hf_model_type(HfArchitecture architecture) { return named(architecture).model_type; }
std::string_view hf_class(HfArchitecture architecture) { return named(architecture).class_name; }

bool has_selection_bias(HfArchitecture architecture) {
  return architecture == HfArchitecture::kDeepseekV3 || architecture == HfArchitecture::kGlm4Moe;
}

bool needs_shared_expert(HfArchitecture architecture) {
  return has_selection_bias(architecture) || architecture == HfArchitecture::kDeepseekV2;
}

int64_t head_dim_of(const ModelConfig& model) {
  const AttentionConfig& attention = model.attention();
  return attention.head_dim() > 0 ? attention.head_dim() : model.hidden() / attention.heads();
}

}  // namespace shoal
