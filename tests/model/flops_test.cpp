// tests/model/flops_test.cpp: parameters and FLOPs of published models, and of tiny ones counted by hand.
#include "core/model/flops.h"

#include <catch2/catch.hpp>

#include "core/config/load.h"

namespace shoal {
namespace {

ModelConfig model_of(const std::string& file) { return load_config({file}).config.model(); }

ModelConfig published(const std::string& name) { return model_of("configs/models/" + name + ".textproto"); }

ModelConfig parsed(const std::string& model) {
  return parse_config("model { " + model + " }", "a.textproto").config.model();
}

double gflops(const ModelConfig& model, int64_t seq_len, FlopConvention convention) {
  return flops_per_token(model, seq_len, convention) * 1e-9;
}

}  // namespace

TEST_CASE("parameters of published models are exact", "[model]") {
  struct Known {
    const char* name;
    int64_t total;
    int64_t active;                    // 0: not published to the last digit
    int64_t active_without_embedding;  // 0: likewise
  };
  const Known models[] = {
      {"deepseek_v3", 671'026'419'200, 36'625'618'432 + 926'679'040, 36'625'618'432},
      {"deepseek_v2", 235'741'434'880, 0, 0},
      {"deepseek_v2_lite", 15'706'484'224, 0, 0},
      {"qwen3_30b_a3b", 30'532'122'624, 3'353'032'704, 0},
      {"olmoe_1b_7b", 6'919'161'856, 1'282'017'280, 0},
      {"mixtral_8x7b", 46'702'792'704, 12'879'925'248, 0},
      {"mixtral_8x22b", 140'620'634'112, 0, 0},
      {"llama3_8b", 8'030'261'248, 8'030'261'248, 0},
      {"llama3_405b", 405'853'388'800, 405'853'388'800, 0},
      {"deepseek_67b", 67'425'001'472, 67'425'001'472, 0},
  };
  for (const Known& known : models) {
    INFO(known.name);
    const ParameterCounts counts = count_parameters(published(known.name));
    CHECK(counts.total == known.total);
    if (known.active != 0) CHECK(counts.active == known.active);
    if (known.active_without_embedding != 0) CHECK(counts.active_without_embedding == known.active_without_embedding);
    if (std::string(known.name) != "deepseek_v3") CHECK(counts.mtp == 0);
  }
}

TEST_CASE("DeepSeek-V3's parts", "[model]") {
  const ParameterCounts counts = count_parameters(published("deepseek_v3"));
  CHECK(counts.embedding == 926'679'040);
  CHECK(counts.head == 926'679'040);
  CHECK(counts.router_biases == 58 * 256);
  CHECK(counts.mtp == 11'610'068'224);
}

TEST_CASE("an untied head is counted", "[model]") {
  ModelConfig model = model_of("configs/dense_124m.textproto");
  const ParameterCounts tied = count_parameters(model);
  CHECK(tied.total == 123'551'232);
  CHECK(tied.active == 123'551'232);
  CHECK(tied.active_without_embedding == 123'551'232);
  CHECK(tied.mtp == 0);
  CHECK(tied.head == 0);
  model.set_tie_embeddings(false);
  const ParameterCounts counts = count_parameters(model);
  CHECK(counts.total == 162'148'608);
  CHECK(counts.head == 50257 * 768);
  CHECK(counts.active_without_embedding == 123'551'232);
}

TEST_CASE("FLOPs per token of published models", "[model]") {
  const ModelConfig v3 = published("deepseek_v3");
  CHECK(gflops(v3, 4096, {}) == Approx(250.45).epsilon(1e-3));
  CHECK(gflops(v3, 4096, {.causal = false}) == Approx(281.15).epsilon(1e-3));
  CHECK(gflops(v3, 4096, {.with_mtp = true}) == Approx(260.64).epsilon(1e-3));
  CHECK(gflops(published("deepseek_v2"), 4096, {}) == Approx(155.30).epsilon(1e-3));
  // 759 GFLOP in matrices and 58 in causal attention for 1024 tokens, as measured op by op.
  CHECK(gflops(model_of("configs/dense_124m.textproto"), 1024, {}) * 1024 == Approx(759 + 58).epsilon(1e-3));
}

TEST_CASE("a small GQA MoE, counted by hand", "[model]") {
  const ModelConfig model = parsed(
      "vocab: 11 hidden: 6 layers: 3 ffn: 5 attention { heads: 4 kv_heads: 2 head_dim: 2 qk_norm: FULL_WIDTH } "
      "moe { num_experts: 7 topk: 2 ffn: 3 num_shared_experts: 2 first_dense_layers: 1 router { selection_bias: true } "
      "}"
      "mtp { depth: 2 }");
  const int64_t attention = 6 * 8 + 2 * 6 * 4 + 8 * 6;  // q, k and v, out
  const int64_t norms = 6 + 6 + 8 + 4;                  // attention, MLP, q, k
  const int64_t expert = 3 * 6 * 3;
  const int64_t moe_active = (2 + 2) * expert + 7 * 6;  // topk and shared, router
  const int64_t moe = (7 + 2) * expert + 7 * 6 + 7;     // with the bias
  const ParameterCounts counts = count_parameters(model);
  CHECK(counts.total == 2 * 11 * 6 + 6 + 3 * (attention + norms) + 3 * 6 * 5 + 2 * moe);
  CHECK(counts.total - counts.active == 2 * (7 - 2) * expert);
  CHECK(counts.active - counts.active_without_embedding == 11 * 6);
  CHECK(counts.mtp == 2 * (2 * 6 * 6 + 3 * 6 + attention + norms + moe));

  const double matmul = 3 * attention + 3 * 6 * 5 + 2 * moe_active + 11 * 6;
  const double scores = 3 * 2 * 4 * (2 + 2) * 9;  // layers, a product each, heads, widths, 9 tokens
  CHECK(flops_per_token(model, 9, {.causal = false}) == 3 * (2 * matmul + scores));
  CHECK(flops_per_token(model, 9, {}) == 3 * (2 * matmul + scores / 2));
  const double mtp_matmul = attention + moe_active + 2 * 6 * 6 + 11 * 6;
  CHECK(flops_per_token(model, 9, {.with_mtp = true}) == 3 * (2 * (matmul + 2 * mtp_matmul) + (scores / 3 * 5) / 2));
}

TEST_CASE("MLA with and without a low rank for queries, counted by hand", "[model]") {
  const std::string base =
      "vocab: 11 hidden: 6 layers: 2 ffn: 5 attention { kind: MLA heads: 3 kv_lora_rank: 4 qk_nope_head_dim: 5 "
      "qk_rope_head_dim: 2 v_head_dim: 3 ";
  const int64_t rest = 2 * 11 * 6 + 6 + 2 * (2 * 6 + 3 * 6 * 5);  // embedding, head, norms, MLPs
  const int64_t kv = 6 * (4 + 2) + 4 + 4 * 3 * (5 + 3);           // down, norm, up
  const int64_t out = 3 * 3 * 6;
  CHECK(count_parameters(parsed(base + "}")).total == rest + 2 * (6 * 3 * 7 + kv + out));
  CHECK(count_parameters(parsed(base + "q_lora_rank: 2 }")).total == rest + 2 * (6 * 2 + 2 + 2 * 3 * 7 + kv + out));
}

TEST_CASE("GQA's widths have defaults", "[model]") {
  const std::string start = "vocab: 11 hidden: 12 layers: 1 ffn: 5 attention { heads: 3 ";
  const int64_t total = count_parameters(parsed(start + "}")).total;
  CHECK(total == count_parameters(parsed(start + "kv_heads: 3 head_dim: 4 }")).total);
  CHECK(count_parameters(parsed(start + "qk_norm: PER_HEAD }")).total == total + 4 + 4);
}

}  // namespace shoal
