// core/huggingface/config_write.cpp: config.json, key by key.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

#include "core/base/check.h"
#include "core/huggingface/config.h"

namespace shoal {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson or_null(const std::optional<int64_t>& id) { return id ? OrderedJson(*id) : OrderedJson(); }
// A number where there is one, as most have it.
OrderedJson or_null(const std::vector<int64_t>& ids) {
  if (ids.empty()) return {};
  return ids.size() == 1 ? OrderedJson(ids[0]) : OrderedJson(ids);
}

// What YaRN multiplies logits by, as the factor of cosines and sines that does the same where all of a head is rotated.
double attention_factor(const YarnConfig& yarn) {
  const auto g = [&](double m) { return 0.1 * m * std::log(yarn.factor()) + 1; };
  if (yarn.mscale_all_dim() == 0) return g(1);
  return yarn.mscale() == 0 ? g(1) * g(yarn.mscale_all_dim()) : g(yarn.mscale());
}

OrderedJson rope_scaling(const AttentionConfig& attention) {
  if (!attention.rope().has_yarn()) return {};
  const YarnConfig& yarn = attention.rope().yarn();
  OrderedJson scaling = {{"type", "yarn"},
                         {"rope_type", "yarn"},
                         {"factor", yarn.factor()},
                         {"original_max_position_embeddings", yarn.original_max_position()},
                         {"beta_fast", yarn.beta_fast()},
                         {"beta_slow", yarn.beta_slow()}};
  if (attention.kind() == AttentionConfig::MLA) {
    scaling["mscale"] = yarn.mscale();
    scaling["mscale_all_dim"] = yarn.mscale_all_dim();
  } else {
    scaling["attention_factor"] = attention_factor(yarn);
  }
  return scaling;
}

int64_t max_positions(const ModelConfig& model, int64_t asked) {
  if (!model.attention().rope().has_yarn()) return asked;
  const YarnConfig& yarn = model.attention().rope().yarn();
  return std::llround(yarn.factor() * static_cast<double>(yarn.original_max_position()));
}

void add_attention(OrderedJson& json, const ModelConfig& model, HfArchitecture architecture) {
  const AttentionConfig& attention = model.attention();
  const int64_t heads = attention.heads();
  json["num_attention_heads"] = heads;
  json["num_key_value_heads"] = attention.kv_heads() > 0 ? attention.kv_heads() : heads;
  if (attention.kind() == AttentionConfig::MLA) {
    json["q_lora_rank"] = attention.q_lora_rank() > 0 ? OrderedJson(attention.q_lora_rank()) : OrderedJson();
    json["kv_lora_rank"] = attention.kv_lora_rank();
    json["qk_nope_head_dim"] = attention.qk_nope_head_dim();
    json["qk_rope_head_dim"] = attention.qk_rope_head_dim();
    json["v_head_dim"] = attention.v_head_dim();
  } else {
    json["head_dim"] = head_dim_of(model);
  }
  if (architecture == HfArchitecture::kGlm4Moe) {
    json["use_qk_norm"] = attention.qk_norm() == AttentionConfig::PER_HEAD;
    json["partial_rotary_factor"] = 1.0;
  }
  json["attention_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["rope_theta"] = attention.rope().theta();
  json["rope_scaling"] = rope_scaling(attention);
}

// DeepSeek-V3, V2 and GLM-4-MoE.
void add_deepseek_experts(OrderedJson& json, const ModelConfig& model, HfArchitecture architecture, bool mtp) {
  const MoeConfig& moe = model.moe();
  const RouterConfig& router = moe.router();
  const bool dense = !model.has_moe();  // the class wants experts all the same; no block has them
  json["first_k_dense_replace"] = dense ? model.layers() : moe.first_dense_layers();
  json["moe_layer_freq"] = 1;
  json["moe_intermediate_size"] = dense ? model.ffn() : moe.ffn();
  json["n_routed_experts"] = dense ? 2 : moe.num_experts();
  json["n_shared_experts"] = std::max<int64_t>(moe.num_shared_experts(), 1);
  json["num_experts_per_tok"] = dense ? 1 : moe.topk();
  json["n_group"] = router.num_groups();
  json["topk_group"] = router.topk_groups();
  json["norm_topk_prob"] = router.normalize_topk();
  json["routed_scaling_factor"] = router.route_scale();
  if (architecture == HfArchitecture::kDeepseekV2) {
    json["scoring_func"] = "softmax";
    json["topk_method"] = router.num_groups() > 1 ? "group_limited_greedy" : "greedy";
  } else {
    json["scoring_func"] = "sigmoid";
    json["topk_method"] = "noaux_tc";
    json["num_nextn_predict_layers"] = mtp ? model.mtp().depth() : 0;
  }
  json["aux_loss_alpha"] = router.sequence_balance_loss();
  json["seq_aux"] = true;
  json["ep_size"] = 1;
}

void add_softmax_experts(OrderedJson& json, const ModelConfig& model, HfArchitecture architecture) {
  const MoeConfig& moe = model.moe();
  json[architecture == HfArchitecture::kMixtral ? "num_local_experts" : "num_experts"] = moe.num_experts();
  json["num_experts_per_tok"] = moe.topk();
  json["router_aux_loss_coef"] = moe.router().batch_balance_loss();
  if (architecture != HfArchitecture::kMixtral) json["norm_topk_prob"] = moe.router().normalize_topk();
  if (architecture != HfArchitecture::kQwen3Moe) return;
  json["moe_intermediate_size"] = moe.ffn();
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = OrderedJson::array();
  for (int64_t i = 0; i < moe.first_dense_layers(); ++i) json["mlp_only_layers"].push_back(i);
}

// Of the dense blocks; of the experts where the architecture has no other name for theirs.
int64_t intermediate_size(const ModelConfig& model, HfArchitecture architecture) {
  const bool of_experts = architecture == HfArchitecture::kMixtral || architecture == HfArchitecture::kOlmoe;
  return of_experts || model.ffn() == 0 ? model.moe().ffn() : model.ffn();
}

}  // namespace

std::string hf_config_json(const ModelConfig& model, HfArchitecture architecture, const HfConfigOptions& options) {
  OrderedJson json = {{"architectures", {hf_class(architecture)}},
                      {"model_type", hf_model_type(architecture)},
                      {"vocab_size", model.vocab()},
                      {"hidden_size", model.hidden()},
                      {"intermediate_size", intermediate_size(model, architecture)},
                      {"num_hidden_layers", model.layers()},
                      {"hidden_act", "silu"},
                      {"max_position_embeddings", max_positions(model, options.max_positions)},
                      {"initializer_range", model.init_std()},
                      {"rms_norm_eps", model.norm_eps()}};
  add_attention(json, model, architecture);
  switch (architecture) {
    case HfArchitecture::kDeepseekV3:
    case HfArchitecture::kDeepseekV2:
    case HfArchitecture::kGlm4Moe: add_deepseek_experts(json, model, architecture, options.mtp); break;
    case HfArchitecture::kQwen3Moe:
    case HfArchitecture::kOlmoe:
    case HfArchitecture::kMixtral: add_softmax_experts(json, model, architecture); break;
    case HfArchitecture::kQwen3:
    case HfArchitecture::kLlama: break;
  }
  json["tie_word_embeddings"] = model.tie_embeddings();
  json["use_cache"] = true;
  json["bos_token_id"] = or_null(options.ids.bos);
  json["eos_token_id"] = or_null(options.ids.eos);
  json["pad_token_id"] = or_null(options.ids.pad);
  json["torch_dtype"] = options.dtype == DType::kF32 ? "float32" : "bfloat16";
  return json.dump(2) + "\n";
}

std::string hf_generation_config_json(const HfSpecialIds& ids) {
  OrderedJson json = {{"_from_model_config", true}};
  if (ids.bos) json["bos_token_id"] = *ids.bos;
  if (!ids.eos.empty()) json["eos_token_id"] = or_null(ids.eos);
  if (ids.pad) json["pad_token_id"] = *ids.pad;
  return json.dump(2) + "\n";
}

}  // namespace shoal
