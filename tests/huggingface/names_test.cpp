// tests/huggingface/names_test.cpp: every row of ours has one place among theirs, in the order that their RoPE wants.
#include "core/huggingface/names.h"

#include <catch2/catch.hpp>

#include <algorithm>

#include "tests/huggingface/tiny.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

const HfTensor& find(const HfNames& names, const std::string& name) {
  for (const HfTensor& tensor : names.tensors) {
    if (tensor.name == name) return tensor;
  }
  FAIL("no " << name);
  return names.tensors[0];
}

bool contains(const HfNames& names, const std::string& name) {
  return std::any_of(names.tensors.begin(), names.tensors.end(), [&](const HfTensor& t) { return t.name == name; });
}

HfNames names_of(const std::string& text) {
  const Config config = tiny_config(text);
  return hf_names(config.model(), hf_architecture(config.model()));
}

TEST_CASE("every row of every tensor is exported once") {
  for (const auto& [type, text] : kTinyModels) {
    INFO(type);
    const Config config = tiny_config(text);
    CHECK(hf_model_type(hf_architecture(config.model())) == type);
    const HfNames names = names_of(text);
    std::map<std::string, std::vector<int>> seen;
    for (const auto& [name, shape] : names.ours) {
      const int64_t width = shape.dims() > 1 ? shape[shape.dims() - 1] : 1;
      seen[name].resize(static_cast<size_t>(shape.numel() / width));
    }
    for (const HfTensor& tensor : names.tensors) {
      if (tensor.is_copy || tensor.source.empty()) continue;
      for (int64_t row = 0; row < tensor.rows(); ++row) {
        ++seen.at(tensor.source).at(static_cast<size_t>(tensor.source_row(row)));
      }
    }
    for (const auto& [name, counts] : seen) {
      INFO(name);
      CHECK(std::all_of(counts.begin(), counts.end(), [](int count) { return count == 1; }));
    }
  }
}

TEST_CASE("names and shapes are DeepSeek-V3's") {
  const HfNames names = names_of(kTinyModels.at("deepseek_v3"));
  const std::string layer = "model.layers.1.";
  CHECK(find(names, "model.embed_tokens.weight").shape == Shape{12, 8});
  CHECK(find(names, layer + "self_attn.q_a_proj.weight").shape == Shape{5, 8});
  CHECK(find(names, layer + "self_attn.q_a_layernorm.weight").shape == Shape{5});
  CHECK(find(names, layer + "self_attn.q_b_proj.weight").shape == Shape{12, 5});
  CHECK(find(names, layer + "self_attn.kv_a_proj_with_mqa.weight").shape == Shape{8, 8});
  CHECK(find(names, layer + "self_attn.kv_b_proj.weight").shape == Shape{10, 4});
  CHECK(find(names, layer + "self_attn.o_proj.weight").shape == Shape{8, 6});
  CHECK(find(names, "model.layers.0.mlp.gate_proj.weight").shape == Shape{6, 8});
  CHECK_FALSE(contains(names, "model.layers.0.mlp.gate.weight"));
  CHECK(find(names, layer + "mlp.gate.weight").shape == Shape{4, 8});
  CHECK(find(names, layer + "mlp.gate.e_score_correction_bias").is_bias);
  CHECK(find(names, layer + "mlp.experts.3.down_proj.weight").shape == Shape{8, 3});
  CHECK(find(names, layer + "mlp.experts.3.up_proj.weight").first_row == 3 * 6 + 3);
  CHECK(find(names, layer + "mlp.shared_experts.gate_proj.weight").shape == Shape{6, 8});
  // Multi-token prediction stands behind the last block.
  CHECK(find(names, "model.layers.2.eh_proj.weight").shape == Shape{8, 16});
  CHECK(find(names, "model.layers.2.shared_head.norm.weight").source == "layers.2.head_norm");
  CHECK(find(names, "model.layers.2.shared_head.head.weight").is_copy);
  CHECK(find(names, "model.layers.2.embed_tokens.weight").source == "embedding");
  CHECK(contains(names, "model.layers.2.mlp.experts.0.gate_proj.weight"));
  const Config config = tiny_config(kTinyModels.at("deepseek_v3"));
  const HfNames without = hf_names(config.model(), HfArchitecture::kDeepseekV3, false);
  CHECK_FALSE(contains(without, "model.layers.2.eh_proj.weight"));
  CHECK_FALSE(without.ours.contains("layers.2.eh_proj"));
}

TEST_CASE("names of the other architectures") {
  const HfNames mixtral = names_of(kTinyModels.at("mixtral"));
  CHECK(find(mixtral, "model.layers.0.block_sparse_moe.experts.1.w1.weight").first_row == 6);
  CHECK(find(mixtral, "model.layers.0.block_sparse_moe.experts.1.w3.weight").first_row == 9);
  CHECK(find(mixtral, "model.layers.0.block_sparse_moe.experts.1.w2.weight").source == "layers.0.experts.down");
  CHECK(contains(mixtral, "model.layers.0.block_sparse_moe.gate.weight"));
  const HfNames olmoe = names_of(kTinyModels.at("olmoe"));
  CHECK(find(olmoe, "model.layers.0.self_attn.q_norm.weight").shape == Shape{8});
  const HfNames qwen = names_of(kTinyModels.at("qwen3_moe"));
  CHECK(find(qwen, "model.layers.1.self_attn.q_norm.weight").shape == Shape{6});
  CHECK(find(qwen, "model.layers.1.self_attn.v_proj.weight").first_row == 18);
  CHECK(contains(qwen, "model.layers.0.mlp.up_proj.weight"));
  const HfNames llama = names_of(kTinyModels.at("llama"));
  CHECK_FALSE(contains(llama, "lm_head.weight"));
  CHECK_FALSE(contains(llama, "model.layers.0.self_attn.q_norm.weight"));
  // An architecture that always has a shared expert gets one of zeros.
  const HfNames none = names_of("attention { heads: 2 } " + experts("score: SIGMOID"));
  CHECK(find(none, "model.layers.1.mlp.shared_experts.down_proj.weight").source.empty());
  CHECK(find(none, "model.layers.1.mlp.gate.e_score_correction_bias").source.empty());
}

std::vector<int64_t> source_rows(const HfTensor& tensor) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < tensor.rows(); ++row) rows.push_back(tensor.source_row(row));
  return rows;
}

TEST_CASE("rows of RoPE are in the other side's order") {
  // GQA there is half-split: pairs (0, 1), (2, 3) become (0, 2), (1, 3).
  const HfNames pairs = names_of("attention { heads: 2 kv_heads: 1 head_dim: 4 rope { layout: INTERLEAVED } }");
  CHECK(source_rows(find(pairs, "model.layers.0.self_attn.q_proj.weight")) ==
        std::vector<int64_t>{0, 2, 1, 3, 4, 6, 5, 7});
  CHECK(source_rows(find(pairs, "model.layers.0.self_attn.k_proj.weight")) == std::vector<int64_t>{8, 10, 9, 11});
  CHECK(source_rows(find(pairs, "model.layers.0.self_attn.v_proj.weight")) == std::vector<int64_t>{12, 13, 14, 15});
  const HfNames normed = names_of("attention { heads: 2 head_dim: 6 qk_norm: PER_HEAD rope { layout: INTERLEAVED } }");
  CHECK(source_rows(find(normed, "model.layers.0.self_attn.q_norm.weight")) == std::vector<int64_t>{0, 2, 4, 1, 3, 5});
  const HfNames halves = names_of("attention { heads: 2 head_dim: 4 }");
  CHECK(find(halves, "model.layers.0.self_attn.q_proj.weight").order == RowOrder::kSame);
  // MLA there is interleaved: halves (0, 2), (1, 3) become pairs, in the rotated part alone.
  std::string mla = kTinyModels.at("deepseek_v2");
  CHECK(find(names_of(mla), "model.layers.0.self_attn.q_b_proj.weight").order == RowOrder::kSame);
  mla.replace(mla.find("INTERLEAVED"), 11, "HALF_SPLIT");
  CHECK(source_rows(find(names_of(mla), "model.layers.0.self_attn.q_b_proj.weight")) ==
        std::vector<int64_t>{0, 1, 2, 4, 3, 5, 6, 7, 8, 10, 9, 11});
  CHECK(source_rows(find(names_of(mla), "model.layers.0.self_attn.kv_a_proj_with_mqa.weight")) ==
        std::vector<int64_t>{0, 1, 2, 3, 4, 6, 5, 7});
}

void refused(const std::string& model, const std::string& field) {
  INFO(model);
  CHECK_THROWS_WITH(hf_architecture(tiny_config(model).model()),
                    Contains("model." + field + " cannot be expressed by an architecture of Hugging Face: "));
}

TEST_CASE("what no architecture computes is refused by the field's name") {
  refused(kMla + experts("score: SOFTMAX normalize_topk: false selection_bias: true"), "moe.router.selection_bias");
  refused(kMla + experts("score: SOFTMAX"), "moe.router.normalize_topk");
  refused(kMla + experts("score: SOFTMAX normalize_topk: false num_groups: 2"), "moe.router.group_score");
  refused(kMla + experts("score: SOFTMAX normalize_topk: false") + "mtp { depth: 1 }", "mtp.depth");
  refused(kMla + experts("score: SIGMOID num_groups: 2 group_score: MAX"), "moe.router.group_score");
  refused(kMla + experts("score: SIGMOID num_groups: 4 group_score: MAX"), "moe.router.group_score");
  refused(kMla + "mtp { depth: 1 }", "mtp.depth");
  const std::string gqa = "attention { heads: 2 } ", full = "attention { heads: 2 qk_norm: FULL_WIDTH } ";
  refused(full, "attention.qk_norm");
  refused(full + experts("score: SIGMOID"), "attention.qk_norm");
  refused(full + experts("score: SOFTMAX"), "moe.first_dense_layers");
  refused(gqa + experts("score: SOFTMAX normalize_topk: false", ""), "moe.router.normalize_topk");
  refused(gqa + experts("score: SOFTMAX num_groups: 2", ""), "moe.router.num_groups");
  refused(gqa + experts("score: SOFTMAX route_scale: 2", ""), "moe.router.route_scale");
  refused(gqa + experts("score: SOFTMAX", "num_shared_experts: 1"), "moe.num_shared_experts");
  refused(gqa + experts("score: SOFTMAX"), "moe.first_dense_layers");
  refused(gqa + "mtp { depth: 1 }", "mtp.depth");
  refused("attention { heads: 3 head_dim: 2 }", "attention.heads");
  CHECK(hf_architecture(tiny_config(gqa + "mtp { depth: 1 }").model(), false) == HfArchitecture::kLlama);
}

int64_t parameters(const std::string& file, bool mtp) {
  const Config config = load_config({"configs/models/" + file + ".textproto"}).config;
  int64_t total = 0;
  for (const HfTensor& tensor : hf_names(config.model(), hf_architecture(config.model(), mtp), mtp).tensors) {
    if (!tensor.is_copy && !tensor.is_bias) total += tensor.shape.numel();
  }
  return total;
}

TEST_CASE("published models have their published number of parameters") {
  CHECK(parameters("deepseek_v3", false) == 671'026'404'352);
  CHECK(parameters("deepseek_v2_lite", true) == 15'706'484'224);
  CHECK(parameters("qwen3_30b_a3b", true) == 30'532'122'624);
  CHECK(parameters("olmoe_1b_7b", true) == 6'919'161'856);
  CHECK(parameters("mixtral_8x7b", true) == 46'702'792'704);
}

}  // namespace
}  // namespace shoal
