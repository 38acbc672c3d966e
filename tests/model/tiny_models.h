// tests/model/tiny_models.h: small networks of every family, and a batch for them.
#pragma once

#include <google/protobuf/text_format.h>

#include <string>

#include "core/base/check.h"
#include "core/config/config.pb.h"

namespace shoal::tiny {

inline ModelConfig parse(const std::string& text) {
  ModelConfig config;
  SHOAL_CHECK(google::protobuf::TextFormat::ParseFromString(text, &config), "bad test config");
  return config;
}

// DeepSeek-V3-like: MLA with low-rank queries and YaRN, first layer dense, sigmoid router with bias and groups.
inline ModelConfig deepseek() {
  return parse(R"(
    name: "tiny-deepseek" vocab: 37 hidden: 20 layers: 2 ffn: 28 init_std: 0.25
    attention { kind: MLA heads: 3 q_lora_rank: 7 kv_lora_rank: 6 qk_nope_head_dim: 5 qk_rope_head_dim: 4 v_head_dim: 6
                rope { layout: INTERLEAVED yarn { factor: 4 original_max_position: 8 } } }
    moe { num_experts: 8 topk: 3 ffn: 9 num_shared_experts: 1 first_dense_layers: 1
          router { score: SIGMOID selection_bias: true num_groups: 4 topk_groups: 2 route_scale: 1.7
                   sequence_balance_loss: 0.05 } })");
}

// DeepSeek-V2-Lite-like: MLA without low-rank queries, softmax router, not normalised, two shared experts.
inline ModelConfig deepseek_v2_lite() {
  return parse(R"(
    name: "tiny-v2-lite" vocab: 33 hidden: 16 layers: 2 ffn: 24 init_std: 0.25
    attention { kind: MLA heads: 2 kv_lora_rank: 6 qk_nope_head_dim: 4 qk_rope_head_dim: 4 v_head_dim: 5
                rope { layout: INTERLEAVED } }
    moe { num_experts: 6 topk: 2 ffn: 7 num_shared_experts: 2 first_dense_layers: 1
          router { score: SOFTMAX normalize_topk: false num_groups: 3 topk_groups: 2 group_score: MAX
                   batch_balance_loss: 0.03 } })");
}

// Qwen3-MoE-like: GQA with q/k norm per head, softmax router, renormalised, no shared expert.
inline ModelConfig qwen3_moe() {
  return parse(R"(
    name: "tiny-qwen3" vocab: 41 hidden: 18 layers: 2 init_std: 0.25
    attention { heads: 4 kv_heads: 2 head_dim: 6 qk_norm: PER_HEAD }
    moe { num_experts: 5 topk: 2 ffn: 11 router { score: SOFTMAX batch_balance_loss: 0.02 } })");
}

// OLMoE-like: multi-head attention with full-width q/k norm, softmax router, not renormalised.
inline ModelConfig olmoe() {
  return parse(R"(
    name: "tiny-olmoe" vocab: 29 hidden: 16 layers: 1 init_std: 0.25 norm_eps: 1e-5
    attention { heads: 2 qk_norm: FULL_WIDTH }
    moe { num_experts: 4 topk: 2 ffn: 10 router { score: SOFTMAX normalize_topk: false batch_balance_loss: 0.1 } })");
}

// Llama-like: dense, GQA, tied head.
inline ModelConfig llama() {
  return parse(R"(
    name: "tiny-llama" vocab: 31 hidden: 24 layers: 2 ffn: 20 init_std: 0.25 tie_embeddings: true
    attention { heads: 4 kv_heads: 2 })");
}

// DeepSeek-V3-like with multi-token prediction, and heads, experts and widths that split over up to 8 ranks.
inline ModelConfig deepseek_mtp() {
  ModelConfig config = deepseek();
  config.set_name("tiny-deepseek-mtp");
  config.set_layers(3);
  config.mutable_attention()->set_heads(8);
  config.mutable_mtp()->set_depth(1);
  return config;
}

// The same family with heads and experts that split over 4 ranks.
inline ModelConfig wide(ModelConfig config) {
  config.mutable_attention()->set_heads(4);
  if (config.attention().kind() == AttentionConfig::GQA) config.mutable_attention()->set_kv_heads(4);
  if (config.has_moe()) {
    config.mutable_moe()->set_num_experts(12);
    // A balance loss over a microbatch's tokens is another loss when ranks have other microbatches.
    config.mutable_moe()->mutable_router()->clear_batch_balance_loss();
  }
  return config;
}

}  // namespace shoal::tiny
