// core/model/flops.cpp: one block's weights, times the blocks.
#include "core/model/flops.h"

namespace shoal {
namespace {

// Weights of one part of the network.
struct Weights {
  int64_t matmul = 0;  // multiplied with every token
  int64_t norm = 0;
  int64_t all() const { return matmul + norm; }
};

// Widths of one head's queries and keys, and values.
struct HeadWidths {
  int64_t qk = 0;
  int64_t v = 0;
};

HeadWidths head_widths(const ModelConfig& model) {
  const AttentionConfig& a = model.attention();
  if (a.kind() == AttentionConfig::MLA) return {a.qk_nope_head_dim() + a.qk_rope_head_dim(), a.v_head_dim()};
  const int64_t width = a.head_dim() > 0 ? a.head_dim() : model.hidden() / a.heads();
  return {width, width};
}

Weights mla_weights(const ModelConfig& model) {
  const AttentionConfig& a = model.attention();
  const int64_t hidden = model.hidden();
  const int64_t q_width = a.heads() * (a.qk_nope_head_dim() + a.qk_rope_head_dim());
  const int64_t q_rank = a.q_lora_rank();
  const int64_t latent = a.kv_lora_rank();
  const int64_t q = q_rank > 0 ? hidden * q_rank + q_rank * q_width : hidden * q_width;
  const int64_t kv =
      hidden * (latent + a.qk_rope_head_dim()) + latent * a.heads() * (a.qk_nope_head_dim() + a.v_head_dim());
  return {.matmul = q + kv + a.heads() * a.v_head_dim() * hidden, .norm = q_rank + latent};
}

Weights gqa_weights(const ModelConfig& model) {
  const AttentionConfig& a = model.attention();
  const int64_t width = head_widths(model).qk;
  const int64_t q_width = a.heads() * width;
  const int64_t kv_width = (a.kv_heads() > 0 ? a.kv_heads() : a.heads()) * width;
  Weights weights{.matmul = 2 * model.hidden() * (q_width + kv_width)};
  switch (a.qk_norm()) {
    case AttentionConfig::NONE: break;
    case AttentionConfig::PER_HEAD: weights.norm = 2 * width; break;
    case AttentionConfig::FULL_WIDTH: weights.norm = q_width + kv_width; break;
  }
  return weights;
}

// Attention and the norms before it and before the MLP.
Weights attention_weights(const ModelConfig& model) {
  Weights weights = model.attention().kind() == AttentionConfig::MLA ? mla_weights(model) : gqa_weights(model);
  weights.norm += 2 * model.hidden();
  return weights;
}

int64_t mlp_weights(const ModelConfig& model, int64_t ffn) { return 3 * model.hidden() * ffn; }

// One MoE layer.
struct MoeWeights {
  int64_t all = 0;
  int64_t active_matmul = 0;
  int64_t bias = 0;
};

MoeWeights moe_weights(const ModelConfig& model) {
  const MoeConfig& moe = model.moe();
  const int64_t expert = mlp_weights(model, moe.ffn());
  const int64_t always = moe.num_shared_experts() * expert + moe.num_experts() * model.hidden();  // shared, router
  const int64_t bias = moe.router().selection_bias() ? moe.num_experts() : 0;
  return {
      .all = moe.num_experts() * expert + always + bias, .active_matmul = moe.topk() * expert + always, .bias = bias};
}

int64_t num_moe_layers(const ModelConfig& model) {
  return model.has_moe() ? model.layers() - model.moe().first_dense_layers() : 0;
}

// The block of an MTP module is like the model's last.
struct LastBlock {
  int64_t all = 0;
  int64_t active_matmul = 0;
};

LastBlock last_block(const ModelConfig& model) {
  const Weights attention = attention_weights(model);
  if (num_moe_layers(model) == 0) {
    const int64_t mlp = mlp_weights(model, model.ffn());
    return {.all = attention.all() + mlp, .active_matmul = attention.matmul + mlp};
  }
  const MoeWeights moe = moe_weights(model);
  return {.all = attention.all() + moe.all, .active_matmul = attention.matmul + moe.active_matmul};
}

}  // namespace

ParameterCounts count_parameters(const ModelConfig& model) {
  const int64_t hidden = model.hidden();
  const int64_t moe_layers = num_moe_layers(model);
  const int64_t dense_layers = model.layers() - moe_layers;
  const MoeWeights moe = moe_weights(model);

  ParameterCounts counts;
  counts.embedding = model.vocab() * hidden;
  counts.head = model.tie_embeddings() ? 0 : counts.embedding;
  counts.router_biases = moe_layers * moe.bias;
  const int64_t always = counts.embedding + counts.head + hidden + model.layers() * attention_weights(model).all() +
                         dense_layers * mlp_weights(model, model.ffn());
  counts.total = always + moe_layers * moe.all;
  counts.active = always + moe_layers * (moe.active_matmul + moe.bias);
  counts.active_without_embedding = counts.active - (model.tie_embeddings() ? 0 : counts.embedding);
  // The projection of [embedding, hidden state] and their norms, the block, the norm before the shared head.
  counts.mtp = model.mtp().depth() * (2 * hidden * hidden + 2 * hidden + last_block(model).all + hidden);
  return counts;
}

double flops_per_token(const ModelConfig& model, int64_t seq_len, FlopConvention convention) {
  const int64_t hidden = model.hidden();
  const int64_t moe_layers = num_moe_layers(model);
  const int64_t head = model.vocab() * hidden;
  int64_t matmul = model.layers() * attention_weights(model).matmul +
                   (model.layers() - moe_layers) * mlp_weights(model, model.ffn()) +
                   moe_layers * moe_weights(model).active_matmul + head;
  int64_t attention_layers = model.layers();
  if (convention.with_mtp) {
    matmul += model.mtp().depth() * (last_block(model).active_matmul + 2 * hidden * hidden + head);
    attention_layers += model.mtp().depth();
  }
  const HeadWidths widths = head_widths(model);
  const double scores = static_cast<double>(attention_layers) * static_cast<double>(2 * model.attention().heads()) *
                        static_cast<double>(widths.qk + widths.v) * static_cast<double>(seq_len) *
                        (convention.causal ? 0.5 : 1.0);
  return 3 * (2 * static_cast<double>(matmul) + scores);
}

}  // namespace shoal
