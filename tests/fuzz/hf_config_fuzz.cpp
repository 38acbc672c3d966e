// tests/fuzz/hf_config_fuzz.cpp: config.json of a Hugging Face model: what is sound is written and read again.
#include "core/base/check.h"
#include "core/config/validate.h"
#include "core/huggingface/config.h"
#include "core/huggingface/config_keys.h"
#include "tests/fuzz/json_fuzz.h"
#include "tests/huggingface/tiny.h"

namespace shoal::fuzz {

namespace {

std::string written(const HfConfig& config) {
  return hf_config_json(config.model, hf_architecture(config.model),
                        {.max_positions = config.max_positions, .ids = config.ids});
}

void run(std::string_view input) {
  const HfConfig config = parse_hf_config(input, "config.json");
  LoadedConfig loaded;
  *loaded.config.mutable_model() = config.model;
  validate(loaded, ConfigUse::kCount);
  const std::string text = written(config);
  std::string again;
  try {
    again = written(parse_hf_config(text, "again"));
  } catch (const Error& error) {
    SHOAL_CHECK(false, "{} was written, and then: {}", text, error.what());
  }
  // YaRN's factors go through a logarithm and back.
  if (!config.model.attention().rope().has_yarn()) SHOAL_CHECK_EQ(again, text);
}

OrderedJson tiny(const std::string& type) {
  const Config config = tiny_config(kTinyModels.at(type));
  return OrderedJson::parse(hf_config_json(config.model(), hf_architecture(config.model()), {.max_positions = 32}));
}

std::vector<Seed> seeds() {
  std::vector<Seed> all = json_seeds(tiny("llama").dump(), "model_type");
  for (const auto& [type, text] : kTinyModels) all.emplace_back(tiny(type).dump(), kSound);
  const auto with = [&](const std::string& type, const std::string& key, const OrderedJson& value, const char* says) {
    OrderedJson json = tiny(type);
    json[key] = value;
    all.emplace_back(json.dump(), says);
  };
  const char* const sound = "";
  with("llama", "rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8}},
       sound);
  with("deepseek_v3", "rope_scaling",
       {{"type", "yarn"}, {"factor", 40}, {"original_max_position_embeddings", 8}, {"mscale", 1}}, sound);
  with("llama", "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}, sound);
  with("qwen3_moe", "mlp_only_layers", {1, 0}, sound);
  with("qwen3_moe", "mlp_only_layers", {1}, "dense blocks are the first ones");
  with("llama", "eos_token_id", {2, 3}, sound);
  with("llama", "eos_token_id", OrderedJson::array(), sound);
  with("llama", "eos_token_id", -1, "eos_token_id: expected whole numbers");
  with("llama", "pad_token_id", -1, sound);
  with("llama", "pad_token_id", -2, "pad_token_id: expected whole numbers from -1 on");
  with("llama", "eos_token_id", {2, 99999}, sound);  // the second is left aside
  with("llama", "hidden_size", -8, "hidden_size: expected a whole number");
  with("llama", "hidden_size", 1e300, "hidden_size: expected a whole number");
  with("llama", "hidden_size", 18446744073709551615u, "hidden_size: expected a whole number");
  with("llama", "hidden_size", 1'000'000'000'000, "model.hidden");
  with("llama", "num_attention_heads", 0, "num_attention_heads: expected a whole number");
  with("llama", "num_attention_heads", 1'000'000'000'000, "model.attention");
  with("llama", "num_hidden_layers", 1'000'000'000'000, "model.layers");
  with("llama", "rope_theta", "1e4", "rope_theta: expected a finite number");
  with("llama", "rope_scaling", 7, "rope_scaling: expected an object");
  with("llama", "rope_scaling", {{"type", "yarn"}, {"factor", -1}, {"original_max_position_embeddings", 8}},
       "model.attention.rope.yarn");
  with("llama", "rope_scaling",
       {{"type", "yarn"}, {"factor", 1}, {"original_max_position_embeddings", 8}, {"attention_factor", 2}}, "yarn");
  with("llama", "hidden_act", "gelu", "hidden_act is \"gelu\"");
  with("llama", "model_type", "gpt2", "known are deepseek_v3");
  with("llama", "model_type", repeated("x", 5000), "known are deepseek_v3");
  with("deepseek_v3", "n_group", 0, "n_group: expected a whole number of at least 1");
  with("deepseek_v3", "n_group", 3, "num_groups");
  with("deepseek_v3", "n_routed_experts", 1'000'000'000'000, "num_experts");
  with("deepseek_v3", "quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}, sound);
  with("deepseek_v3", "quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {1, 128}}},
       "weight_block_size");
  with("mixtral", "sliding_window", 4096, "sliding_window is 4096");
  return all;
}

const Registered registered({"hf_config", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
