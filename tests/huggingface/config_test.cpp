// tests/huggingface/config_test.cpp: config.json made and read, and what is refused in it.
#include "core/huggingface/config.h"

#include <catch2/catch.hpp>
#include <google/protobuf/util/message_differencer.h>

#include "tests/huggingface/tiny.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

std::string json_of(const Config& config) {
  return hf_config_json(config.model(), hf_architecture(config.model()), {.max_positions = config.data().seq_len()});
}

OrderedJson published(const std::string& name) {
  const Config config = load_config({"configs/models/" + name + ".textproto"}).config;
  return OrderedJson::parse(json_of(config));
}

TEST_CASE("what is written is read again as the same network") {
  for (const auto& [type, text] : kTinyModels) {
    INFO(type);
    const std::string written = json_of(tiny_config(text));
    const HfConfig read = parse_hf_config(written, "config.json");
    CHECK(hf_model_type(read.architecture) == type);
    CHECK(read.max_positions == 32);
    CHECK(read.unknown_keys.empty());
    CHECK_FALSE(read.is_fp8);
    CHECK(hf_architecture(read.model) == read.architecture);
    CHECK(hf_config_json(read.model, read.architecture, {.max_positions = 32}) == written);
  }
}

TEST_CASE("DeepSeek-V3's keys are the release's") {
  const OrderedJson json = published("deepseek_v3");
  const std::map<std::string, OrderedJson> expected = {{"architectures", {"DeepseekV3ForCausalLM"}},
                                                       {"model_type", "deepseek_v3"},
                                                       {"vocab_size", 129280},
                                                       {"hidden_size", 7168},
                                                       {"intermediate_size", 18432},
                                                       {"moe_intermediate_size", 2048},
                                                       {"num_hidden_layers", 61},
                                                       {"num_nextn_predict_layers", 1},
                                                       {"num_attention_heads", 128},
                                                       {"num_key_value_heads", 128},
                                                       {"n_shared_experts", 1},
                                                       {"n_routed_experts", 256},
                                                       {"num_experts_per_tok", 8},
                                                       {"n_group", 8},
                                                       {"topk_group", 4},
                                                       {"routed_scaling_factor", 2.5},
                                                       {"norm_topk_prob", true},
                                                       {"scoring_func", "sigmoid"},
                                                       {"topk_method", "noaux_tc"},
                                                       {"first_k_dense_replace", 3},
                                                       {"moe_layer_freq", 1},
                                                       {"ep_size", 1},
                                                       {"q_lora_rank", 1536},
                                                       {"kv_lora_rank", 512},
                                                       {"qk_nope_head_dim", 128},
                                                       {"qk_rope_head_dim", 64},
                                                       {"v_head_dim", 128},
                                                       {"hidden_act", "silu"},
                                                       {"max_position_embeddings", 163840},
                                                       {"rms_norm_eps", 1e-6},
                                                       {"rope_theta", 10000.0},
                                                       {"attention_bias", false},
                                                       {"tie_word_embeddings", false},
                                                       {"torch_dtype", "bfloat16"}};
  for (const auto& [key, value] : expected) {
    INFO(key);
    CHECK(json[key] == value);
  }
  const OrderedJson& yarn = json["rope_scaling"];
  CHECK(yarn["type"] == "yarn");
  CHECK(yarn["factor"] == 40.0);
  CHECK(yarn["original_max_position_embeddings"] == 4096);
  CHECK(yarn["mscale_all_dim"] == 1.0);
}

TEST_CASE("keys of the others") {
  CHECK(published("deepseek_v2")["topk_method"] == "group_limited_greedy");
  CHECK(published("deepseek_v2_lite")["topk_method"] == "greedy");
  CHECK(published("deepseek_v2_lite")["q_lora_rank"].is_null());
  CHECK(published("qwen3_30b_a3b")["mlp_only_layers"] == OrderedJson::array());
  CHECK(published("olmoe_1b_7b")["intermediate_size"] == 1024);
  CHECK(published("mixtral_8x7b")["num_local_experts"] == 8);
  CHECK(published("llama3_8b")["rope_scaling"].is_null());
}

// The written config of a model, one key of it changed.
std::string changed(const std::string& type, const std::string& key, const OrderedJson& value) {
  OrderedJson json = OrderedJson::parse(json_of(tiny_config(kTinyModels.at(type))));
  json[key] = value;
  return json.dump();
}

void refused(const std::string& text, const std::string& says) {
  INFO(text);
  CHECK_THROWS_WITH(parse_hf_config(text, "there/config.json"), Contains("there/config.json") && Contains(says));
}

TEST_CASE("arithmetic that Shoal does not have is refused by its key") {
  refused(changed("llama", "hidden_act", "gelu"), "hidden_act is \"gelu\"");
  refused(changed("llama", "attention_bias", true), "attention_bias is true");
  refused(changed("llama", "mlp_bias", true), "mlp_bias is true");
  refused(changed("llama", "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}), "rope_scaling.rope_type");
  refused(changed("llama", "partial_rotary_factor", 0.5), "partial_rotary_factor is 0.5");
  refused(changed("olmoe", "clip_qkv", 8.0), "clip_qkv is 8.0");
  refused(changed("mixtral", "sliding_window", 4096), "sliding_window is 4096");
  refused(changed("qwen3", "layer_types", {"sliding_attention"}), "layer_types");
  refused(changed("qwen3_moe", "mlp_only_layers", {1}), "mlp_only_layers");
  refused(changed("qwen3_moe", "decoder_sparse_step", 2), "decoder_sparse_step is 2");
  refused(changed("deepseek_v3", "moe_layer_freq", 2), "moe_layer_freq is 2");
  refused(changed("deepseek_v3", "scoring_func", "softmax"), "scoring_func");
  refused(changed("deepseek_v2", "norm_topk_prob", true), "norm_topk_prob is true");
  refused(changed("deepseek_v2", "topk_method", "noaux_tc"), "topk_method");
  refused(changed("deepseek_v3", "quantization_config", {{"quant_method", "gptq"}}),
          "quantization_config.quant_method");
  refused(changed("deepseek_v3", "quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {1, 128}}}),
          "weight_block_size");
  refused(changed("llama", "model_type", "gpt2"), "model_type is \"gpt2\"; known are deepseek_v3");
  CHECK_NOTHROW(parse_hf_config(changed("qwen3", "sliding_window", 4096), "config.json"));
}

TEST_CASE("damage is refused by its key") {
  refused("", "is not JSON");
  refused("[]", "expected an object");
  refused("{}", "model_type is missing");
  refused("{\"a\": 1, \"a\": 2}", "the member \"a\" appears twice");
  refused("{\"a\": {\"b\": 1, \"b\": 2}}", "the member \"b\" appears twice");
  refused(std::string("{}\0{}", 5), "NUL");
  refused(std::string(70, '[') + std::string(70, ']'), "nested more than 64 deep");
  refused(changed("llama", "hidden_size", "8"), "hidden_size: expected a whole number of at least 1, found \"8\"");
  refused(changed("llama", "hidden_size", -8), "hidden_size: expected a whole number");
  refused(changed("llama", "hidden_size", 8.5), "hidden_size: expected a whole number");
  refused(changed("llama", "hidden_size", 18446744073709551615ull), "hidden_size: expected a whole number");
  refused(changed("llama", "hidden_size", nullptr), "hidden_size is missing");
  refused(changed("llama", "num_attention_heads", 0), "num_attention_heads");
  refused(changed("llama", "tie_word_embeddings", 1), "tie_word_embeddings: expected true or false");
  refused(changed("llama", "rope_theta", "big"), "rope_theta: expected a finite number");
  refused(changed("llama", "rope_scaling", {1}), "rope_scaling: expected an object");
  refused(changed("llama", "rope_scaling", {{"rope_type", "yarn"}}), "rope_scaling.factor is missing");
  refused(changed("qwen3_moe", "mlp_only_layers", {"a"}), "mlp_only_layers: expected whole numbers");
}

TEST_CASE("what config.json does not say is as the class of transformers has it") {
  const auto without = [](const char* name, std::initializer_list<const char*> keys) {
    OrderedJson json = OrderedJson::parse(json_of(tiny_config(kTinyModels.at(name))));
    for (const char* key : keys) json.erase(key);
    return json;
  };
  OrderedJson v3 = without(
      "deepseek_v3", {"n_group", "topk_group", "routed_scaling_factor", "n_shared_experts", "first_k_dense_replace"});
  v3["num_hidden_layers"] = 5;
  const ModelConfig model = parse_hf_config(v3.dump(), "c").model;
  CHECK(model.moe().router().num_groups() == 8);
  CHECK(model.moe().router().topk_groups() == 4);
  CHECK(model.moe().router().route_scale() == 2.5);
  CHECK(model.moe().num_shared_experts() == 1);
  CHECK(model.moe().first_dense_layers() == 3);
  CHECK(model.norm_eps() == 1e-6);
  const auto v2 = parse_hf_config(without("deepseek_v2", {"n_shared_experts", "routed_scaling_factor"}).dump(), "c");
  CHECK(v2.model.moe().num_shared_experts() == 2);
  CHECK(v2.model.moe().router().route_scale() == 1);
  for (const char* name : {"olmoe", "mixtral"}) {
    CHECK(parse_hf_config(without(name, {"rms_norm_eps"}).dump(), "c").model.norm_eps() == 1e-5);
  }
}

TEST_CASE("both ways of writing RoPE are read, and unknown keys are named") {
  OrderedJson json = OrderedJson::parse(json_of(tiny_config(kTinyModels.at("mixtral"))));
  json.erase("rope_theta");
  CHECK(parse_hf_config(json.dump(), "c").model.attention().rope().theta() == 1e6);
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5000.0}};
  json["logit_cap"] = 30;
  const HfConfig config = parse_hf_config(json.dump(), "c");
  CHECK(config.model.attention().rope().theta() == 5000);
  CHECK(config.unknown_keys == std::vector<std::string>{"logit_cap"});
}

TEST_CASE("YaRN of a GQA model keeps its attention factor") {
  for (const char* yarn : {"mscale: 0 mscale_all_dim: 0", "mscale: 1 mscale_all_dim: 1",
                           "mscale: 0.7 mscale_all_dim: 0.9", "mscale: 0 mscale_all_dim: 0.5"}) {
    INFO(yarn);
    const Config config = tiny_config(std::string("attention { heads: 2 rope { yarn { factor: 4 ") + yarn + " } } }");
    const OrderedJson json = OrderedJson::parse(json_of(config));
    const HfConfig read = parse_hf_config(json.dump(), "c");
    const OrderedJson again = OrderedJson::parse(hf_config_json(read.model, read.architecture, {.max_positions = 32}));
    CHECK(again["rope_scaling"]["attention_factor"].get<double>() ==
          Approx(json["rope_scaling"]["attention_factor"].get<double>()).epsilon(1e-14));
  }
}

}  // namespace
}  // namespace shoal
