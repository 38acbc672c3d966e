// core/huggingface/config_read.cpp: config.json as a model config; what it asks for and we cannot do is refused.
#include <algorithm>
#include <cmath>

#include "core/base/check.h"
#include "core/huggingface/config.h"
#include "core/huggingface/config_keys.h"

namespace shoal {
namespace {

// What the classes of transformers take where config.json says nothing, where they differ.
struct ClassDefaults {
  double norm_eps = 1e-6;
  int64_t groups = 1, topk_groups = 1;
  int64_t dense_layers = 0;
  int64_t shared_experts = 0;
  double route_scale = 1;
};

ClassDefaults class_defaults(HfArchitecture architecture) {
  switch (architecture) {
    case HfArchitecture::kDeepseekV3:
      return {.groups = 8, .topk_groups = 4, .dense_layers = 3, .shared_experts = 1, .route_scale = 2.5};
    case HfArchitecture::kDeepseekV2: return {.shared_experts = 2};
    case HfArchitecture::kGlm4Moe: return {.norm_eps = 1e-5, .dense_layers = 1, .shared_experts = 1};
    case HfArchitecture::kOlmoe:
    case HfArchitecture::kMixtral: return {.norm_eps = 1e-5};
    case HfArchitecture::kQwen3Moe:
    case HfArchitecture::kQwen3:
    case HfArchitecture::kLlama: return {};
  }
  return {};
}

// Both ways of writing rotary embeddings: rope_theta beside rope_scaling, and rope_parameters, which holds both.
class RopeReader {
 public:
  RopeReader(HfConfigKeys& keys, HfArchitecture architecture)
      : architecture_(architecture),
        // Where both are there transformers believes rope_scaling.
        rope_(keys.object(keys.has("rope_scaling") ? "rope_scaling" : "rope_parameters")) {
    keys.ignore({"rope_parameters"});
    const double usual = architecture == HfArchitecture::kMixtral ? 1e6 : 1e4;
    theta_ = rope_.real_or("rope_theta", keys.real_or("rope_theta", usual));
    // What GLM-4-MoE's class takes where nothing is said.
    const double rotated = architecture == HfArchitecture::kGlm4Moe ? 0.5 : 1.0;
    if (rope_.real_or("partial_rotary_factor", keys.real_or("partial_rotary_factor", rotated)) != 1) {
      keys.refuse("partial_rotary_factor", "Shoal rotates all of a head");
    }
  }

  void read(RopeConfig& rope) {
    rope.set_theta(theta_);
    const std::string type = rope_.text_or("rope_type", rope_.text_or("type", "default"));
    if (type == "default") return;
    if (type != "yarn") rope_.refuse(rope_.has("rope_type") ? "rope_type" : "type", "Shoal has default and yarn");
    YarnConfig& yarn = *rope.mutable_yarn();
    yarn.set_factor(rope_.real("factor"));
    yarn.set_original_max_position(rope_.integer("original_max_position_embeddings"));
    yarn.set_beta_fast(rope_.real_or("beta_fast", 32));
    yarn.set_beta_slow(rope_.real_or("beta_slow", 1));
    rope_.must_be("truncate", true, true, "Shoal rounds the limits of YaRN's ramp, as DeepSeek does");
    if (architecture_ == HfArchitecture::kDeepseekV3 || architecture_ == HfArchitecture::kDeepseekV2) {
      rope_.must_be_absent("attention_factor", "Shoal takes it from mscale and mscale_all_dim");
      yarn.set_mscale(rope_.real_or("mscale", 0));
      yarn.set_mscale_all_dim(rope_.real_or("mscale_all_dim", 0));
    } else {
      read_attention_factor(yarn);
    }
  }

 private:
  // These architectures scale cosines and sines, and nothing else, so that logits are multiplied by its square; we
  // multiply by (0.1 * mscale * ln(factor) + 1) squared, whichever way it is shared out.
  void read_attention_factor(YarnConfig& yarn) {
    const auto g = [&](double m) { return yarn.factor() <= 1 ? 1 : 0.1 * m * std::log(yarn.factor()) + 1; };
    const double mscale = rope_.real_or("mscale", 0), all = rope_.real_or("mscale_all_dim", 0);
    const double implied = mscale != 0 && all != 0 ? g(mscale) / g(all) : g(1);
    const double factor = rope_.real_or("attention_factor", implied);
    if (factor == g(1)) {
      yarn.set_mscale(1);
      yarn.set_mscale_all_dim(0);
      return;
    }
    if (!(factor > 1)) rope_.refuse("attention_factor", "Shoal has none of 1 or less");
    const double m = (factor - 1) / (0.1 * std::log(yarn.factor()));
    yarn.set_mscale(m);
    yarn.set_mscale_all_dim(m);
  }

  HfArchitecture architecture_;
  HfConfigKeys rope_;
  double theta_ = 0;
};

void read_mla(HfConfigKeys& keys, AttentionConfig& attention) {
  attention.set_kind(AttentionConfig::MLA);
  attention.set_q_lora_rank(keys.integer_or("q_lora_rank", 0));
  attention.set_kv_lora_rank(keys.integer("kv_lora_rank"));
  attention.set_qk_nope_head_dim(keys.integer("qk_nope_head_dim"));
  attention.set_qk_rope_head_dim(keys.integer("qk_rope_head_dim"));
  attention.set_v_head_dim(keys.integer("v_head_dim"));
  attention.mutable_rope()->set_layout(keys.boolean_or("rope_interleave", true) ? RopeConfig::INTERLEAVED
                                                                                : RopeConfig::HALF_SPLIT);
  keys.ignore({"num_key_value_heads", "head_dim", "qk_head_dim"});  // derived
}

void read_gqa(HfConfigKeys& keys, HfArchitecture architecture, const ModelConfig& model, AttentionConfig& attention) {
  attention.set_kind(AttentionConfig::GQA);
  attention.set_kv_heads(keys.integer_or("num_key_value_heads", attention.heads(), 1));
  const bool qwen3 = architecture == HfArchitecture::kQwen3;  // its class has a width of its own
  attention.set_head_dim(keys.integer_or("head_dim", qwen3 ? 128 : model.hidden() / attention.heads(), 1));
  attention.mutable_rope()->set_layout(RopeConfig::HALF_SPLIT);
  AttentionConfig::QkNorm norm = AttentionConfig::NONE;
  if (qwen3 || architecture == HfArchitecture::kQwen3Moe) norm = AttentionConfig::PER_HEAD;
  if (architecture == HfArchitecture::kOlmoe) norm = AttentionConfig::FULL_WIDTH;
  if (architecture == HfArchitecture::kGlm4Moe && keys.boolean_or("use_qk_norm", false)) {
    norm = AttentionConfig::PER_HEAD;
  }
  attention.set_qk_norm(norm);
  keys.must_be_absent("clip_qkv", "Shoal does not clip queries, keys and values");
  if (keys.boolean_or("use_sliding_window", architecture == HfArchitecture::kMixtral)) {
    keys.must_be_absent("sliding_window", "Shoal attends to all tokens before");
  }
  for (const std::string& type : keys.texts("layer_types")) {
    if (type != "full_attention") keys.refuse("layer_types", "Shoal attends to all tokens before, in every block");
  }
  keys.ignore({"sliding_window", "max_window_layers"});
}

void read_groups(HfConfigKeys& keys, HfArchitecture architecture, RouterConfig& router) {
  const bool v2 = architecture == HfArchitecture::kDeepseekV2;
  if (v2) {
    keys.must_be("scoring_func", "softmax", "DeepSeek-V2 routes by softmax");
    const std::string method = keys.text_or("topk_method", "greedy");
    if (method != "greedy" && method != "group_limited_greedy") {
      keys.refuse("topk_method", "Shoal has DeepSeek-V2's greedy and group_limited_greedy");
    }
    router.set_group_score(RouterConfig::MAX);
    keys.ignore({"n_group", "topk_group"});
    if (method == "greedy") return;
  } else {
    keys.must_be("scoring_func", "sigmoid", "DeepSeek-V3 and GLM-4-MoE route by sigmoid");
    keys.must_be("topk_method", "noaux_tc", "DeepSeek-V3 and GLM-4-MoE choose with a bias");
    router.set_group_score(RouterConfig::TOP2_SUM);
  }
  const ClassDefaults usual = class_defaults(architecture);
  router.set_num_groups(keys.integer_or("n_group", usual.groups, 1));
  router.set_topk_groups(keys.integer_or("topk_group", usual.topk_groups, 1));
}

// DeepSeek-V3, V2 and GLM-4-MoE.
void read_deepseek_experts(HfConfigKeys& keys, HfArchitecture architecture, ModelConfig& model) {
  if (keys.integer_or("moe_layer_freq", 1) != 1)
    keys.refuse("moe_layer_freq", "Shoal has experts in every later block");
  const ClassDefaults usual = class_defaults(architecture);
  const int64_t dense = keys.integer_or("first_k_dense_replace", usual.dense_layers);
  const bool v2 = architecture == HfArchitecture::kDeepseekV2;
  if (!v2)
    model.mutable_mtp()->set_depth(keys.integer_or("num_nextn_predict_layers", keys.integer_or("num_mtp_layers", 0)));
  MoeConfig moe;
  moe.set_num_experts(keys.integer("n_routed_experts"));
  moe.set_topk(keys.integer("num_experts_per_tok"));
  moe.set_ffn(keys.integer("moe_intermediate_size"));
  moe.set_num_shared_experts(keys.integer_or("n_shared_experts", usual.shared_experts));
  moe.set_first_dense_layers(dense);
  RouterConfig& router = *moe.mutable_router();
  router.set_score(v2 ? RouterConfig::SOFTMAX : RouterConfig::SIGMOID);
  router.set_selection_bias(!v2);
  router.set_normalize_topk(keys.boolean_or("norm_topk_prob", !v2));
  if (v2 && router.normalize_topk()) {
    keys.refuse("norm_topk_prob", "engines differ in what DeepSeek-V2 does then: with it, some leave out the scale");
  }
  router.set_route_scale(keys.real_or("routed_scaling_factor", usual.route_scale));
  if (keys.boolean_or("seq_aux", true)) router.set_sequence_balance_loss(keys.real_or("aux_loss_alpha", 0));
  keys.ignore({"aux_loss_alpha", "ep_size", "num_local_experts"});
  read_groups(keys, architecture, router);
  // Every block dense: experts are described, and nowhere.
  if (dense < model.layers()) *model.mutable_moe() = moe;
}

void read_softmax_experts(HfConfigKeys& keys, HfArchitecture architecture, ModelConfig& model) {
  MoeConfig& moe = *model.mutable_moe();
  RouterConfig& router = *moe.mutable_router();
  const bool qwen = architecture == HfArchitecture::kQwen3Moe, mixtral = architecture == HfArchitecture::kMixtral;
  moe.set_num_experts(keys.integer(keys.has("num_local_experts") ? "num_local_experts" : "num_experts"));
  keys.ignore({"num_experts"});  // the same under another name, where both are there
  moe.set_topk(keys.integer("num_experts_per_tok"));
  moe.set_ffn(keys.integer(qwen ? "moe_intermediate_size" : "intermediate_size"));
  router.set_score(RouterConfig::SOFTMAX);
  router.set_normalize_topk(mixtral || keys.boolean_or("norm_topk_prob", false));
  router.set_batch_balance_loss(keys.real_or("router_aux_loss_coef", 0));
  keys.ignore({"router_jitter_noise"});
  if (!qwen) return;
  if (keys.integer_or("decoder_sparse_step", 1) != 1) {
    keys.refuse("decoder_sparse_step", "Shoal has experts in every later block");
  }
  std::vector<int64_t> dense = keys.integers("mlp_only_layers");
  std::sort(dense.begin(), dense.end());
  for (size_t i = 0; i < dense.size(); ++i) {
    if (dense[i] != static_cast<int64_t>(i)) keys.refuse("mlp_only_layers", "Shoal's dense blocks are the first ones");
  }
  moe.set_first_dense_layers(static_cast<int64_t>(dense.size()));
}

void read_experts(HfConfigKeys& keys, HfArchitecture architecture, ModelConfig& model) {
  switch (architecture) {
    case HfArchitecture::kDeepseekV3:
    case HfArchitecture::kDeepseekV2:
    case HfArchitecture::kGlm4Moe: return read_deepseek_experts(keys, architecture, model);
    case HfArchitecture::kQwen3Moe:
    case HfArchitecture::kOlmoe:
    case HfArchitecture::kMixtral: return read_softmax_experts(keys, architecture, model);
    case HfArchitecture::kQwen3:
    case HfArchitecture::kLlama: return;
  }
}

bool is_block_fp8(HfConfigKeys& keys) {
  if (!keys.has("quantization_config")) return false;
  HfConfigKeys quantization = keys.object("quantization_config");
  if (quantization.text_or("quant_method", "") != "fp8") quantization.refuse("quant_method", "Shoal reads fp8");
  quantization.must_be("fmt", "e4m3", "Shoal reads e4m3");
  if (quantization.integers("weight_block_size") != std::vector<int64_t>{128, 128}) {
    quantization.refuse("weight_block_size", "Shoal reads blocks of [128, 128]");
  }
  return true;
}

// Weights do not depend on them: those beyond the vocabulary are left aside, and so is what is below 0, where `low`
// lets that pass.
std::vector<int64_t> special_ids(HfConfigKeys& keys, const char* key, HfConfig& config, int64_t low = 0) {
  std::vector<int64_t> ids = keys.integers(key, low);
  std::erase_if(ids, [&](int64_t id) {
    const bool is_beyond = id >= config.model.vocab();
    if (is_beyond) {
      config.notes.push_back(fmt::format("config.json's {} {} is left aside: the vocabulary has {} tokens", key, id,
                                         config.model.vocab()));
    }
    return is_beyond || id < 0;
  });
  return ids;
}

std::optional<int64_t> special_id(HfConfigKeys& keys, const char* key, HfConfig& config, int64_t low = 0) {
  const std::vector<int64_t> ids = special_ids(keys, key, config, low);
  if (ids.size() > 1) {
    config.notes.push_back(fmt::format("config.json's {} has {} ids: the first, {}, is kept", key, ids.size(), ids[0]));
  }
  return ids.empty() ? std::nullopt : std::optional<int64_t>(ids[0]);
}

}  // namespace

HfConfig parse_hf_config(std::string_view text, const std::string& file) {
  const JsonDocument json(text, file);
  HfConfigKeys keys(json.root());
  HfConfig config;
  if (!keys.has("model_type")) fail("{}: model_type is missing; it is no config of a Hugging Face model", file);
  config.architecture = hf_architecture(keys.text_or("model_type", ""), file);
  ModelConfig& model = config.model;
  model.set_name(std::string(hf_model_type(config.architecture)));
  model.set_vocab(keys.integer("vocab_size"));
  model.set_hidden(keys.integer("hidden_size"));
  model.set_layers(keys.integer("num_hidden_layers"));
  model.set_norm_eps(keys.real_or("rms_norm_eps", class_defaults(config.architecture).norm_eps));
  model.set_tie_embeddings(keys.boolean_or("tie_word_embeddings", false));
  model.set_init_std(keys.real_or("initializer_range", 0.02));
  AttentionConfig& attention = *model.mutable_attention();
  attention.set_heads(keys.integer("num_attention_heads"));
  if (config.architecture == HfArchitecture::kDeepseekV3 || config.architecture == HfArchitecture::kDeepseekV2) {
    read_mla(keys, attention);
  } else {
    read_gqa(keys, config.architecture, model, attention);
  }
  RopeReader(keys, config.architecture).read(*attention.mutable_rope());
  read_experts(keys, config.architecture, model);
  const bool of_experts =
      config.architecture == HfArchitecture::kMixtral || config.architecture == HfArchitecture::kOlmoe;
  if (!of_experts) model.set_ffn(keys.integer("intermediate_size"));
  config.max_positions = keys.integer("max_position_embeddings");
  config.is_fp8 = is_block_fp8(keys);
  config.ids.bos = special_id(keys, "bos_token_id", config);
  config.ids.eos = special_ids(keys, "eos_token_id", config);
  config.ids.pad = special_id(keys, "pad_token_id", config, -1);  // -1: early Llamas have none
  keys.must_be("hidden_act", "silu", "Shoal has SwiGLU, which is silu");
  keys.must_be("attention_bias", false, false, "Shoal has no biases");
  keys.must_be("mlp_bias", false, false, "Shoal has no biases");
  keys.ignore({"architectures", "auto_map", "attention_dropout", "dtype", "torch_dtype", "transformers_version",
               "use_cache", "pretraining_tp", "output_router_logits", "_name_or_path", "_attn_implementation"});
  config.unknown_keys = keys.unknown();
  return config;
}

}  // namespace shoal
