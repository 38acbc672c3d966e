// core/huggingface/names.cpp: block by block, in the words of both sides.
#include "core/huggingface/names.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace shoal {
namespace {

class Names {
 public:
  Names(const ModelConfig& model, HfArchitecture architecture)
      : model_(model), attention_(model.attention()), architecture_(architecture), hidden_(model.hidden()) {}

  HfNames take() { return std::move(names_); }

  void embedding() { whole("model.embed_tokens.weight", "embedding", {model_.vocab(), hidden_}); }

  void end() {
    whole("model.norm.weight", "final_norm", {hidden_});
    if (!model_.tie_embeddings()) whole("lm_head.weight", "head", {model_.vocab(), hidden_});
  }

  void block(int64_t layer) {
    begin_layer(layer);
    whole(theirs_ + "input_layernorm.weight", ours_ + "attention_norm", {hidden_});
    if (attention_.kind() == AttentionConfig::MLA) {
      mla();
    } else {
      gqa();
    }
    whole(theirs_ + "post_attention_layernorm.weight", ours_ + "ffn_norm", {hidden_});
    if (!model_.has_moe() || std::min(layer, model_.layers() - 1) < model_.moe().first_dense_layers()) {
      mlp(theirs_ + "mlp.", ours_ + "ffn.", model_.ffn());
    } else {
      moe();
    }
  }

  void mtp(int64_t depth) {
    const int64_t layer = model_.layers() + depth;
    begin_layer(layer);
    copy(theirs_ + "embed_tokens.weight", "embedding", {model_.vocab(), hidden_});
    whole(theirs_ + "enorm.weight", ours_ + "enorm", {hidden_});
    whole(theirs_ + "hnorm.weight", ours_ + "hnorm", {hidden_});
    whole(theirs_ + "eh_proj.weight", ours_ + "eh_proj", {hidden_, 2 * hidden_});
    block(layer);
    whole(theirs_ + "shared_head.norm.weight", ours_ + "head_norm", {hidden_});
    if (!model_.tie_embeddings()) copy(theirs_ + "shared_head.head.weight", "head", {model_.vocab(), hidden_});
  }

 private:
  void begin_layer(int64_t layer) {
    theirs_ = "model.layers." + std::to_string(layer) + ".";
    ours_ = "layers." + std::to_string(layer) + ".";
  }

  HfTensor& part(std::string theirs, const std::string& ours, Shape shape, int64_t first_row) {
    names_.tensors.push_back({.name = std::move(theirs), .shape = shape, .source = ours, .first_row = first_row});
    return names_.tensors.back();
  }
  HfTensor& whole(std::string theirs, const std::string& ours, Shape shape) {
    names_.ours[ours] = shape;
    return part(std::move(theirs), ours, shape, 0);
  }
  void copy(std::string theirs, const std::string& ours, Shape shape) {
    part(std::move(theirs), ours, shape, 0).is_copy = true;
  }

  // Of each head_rows rows, those of RoPE stand as the architecture rotates them.
  void reorder(HfTensor& tensor, int64_t head_rows, int64_t rope_begin, int64_t rope_rows) const {
    const bool pairs = attention_.rope().layout() == RopeConfig::INTERLEAVED;
    const bool theirs_are_pairs = attention_.kind() == AttentionConfig::MLA;
    if (pairs == theirs_are_pairs || rope_rows == 0) return;
    tensor.order = pairs ? RowOrder::kPairsToHalves : RowOrder::kHalvesToPairs;
    tensor.head_rows = head_rows;
    tensor.rope_begin = rope_begin;
    tensor.rope_rows = rope_rows;
  }

  void gqa() {
    const int64_t heads = attention_.heads(), kv_heads = attention_.kv_heads() > 0 ? attention_.kv_heads() : heads;
    const int64_t dim = head_dim_of(model_), q = heads * dim, kv = kv_heads * dim;
    const std::string qkv = ours_ + "attention.qkv";
    names_.ours[qkv] = {q + 2 * kv, hidden_};
    reorder(part(theirs_ + "self_attn.q_proj.weight", qkv, {q, hidden_}, 0), dim, 0, dim);
    reorder(part(theirs_ + "self_attn.k_proj.weight", qkv, {kv, hidden_}, q), dim, 0, dim);
    part(theirs_ + "self_attn.v_proj.weight", qkv, {kv, hidden_}, q + kv);
    whole(theirs_ + "self_attn.o_proj.weight", ours_ + "attention.out", {hidden_, q});
    if (attention_.qk_norm() == AttentionConfig::NONE) return;
    const bool full = attention_.qk_norm() == AttentionConfig::FULL_WIDTH;
    reorder(whole(theirs_ + "self_attn.q_norm.weight", ours_ + "attention.q_norm", {full ? q : dim}), dim, 0, dim);
    reorder(whole(theirs_ + "self_attn.k_norm.weight", ours_ + "attention.k_norm", {full ? kv : dim}), dim, 0, dim);
  }

  void mla() {
    const int64_t heads = attention_.heads(), rank = attention_.q_lora_rank(), latent = attention_.kv_lora_rank();
    const int64_t nope = attention_.qk_nope_head_dim(), rope = attention_.qk_rope_head_dim();
    const int64_t v = attention_.v_head_dim(), qk = nope + rope;
    const std::string theirs = theirs_ + "self_attn.", ours = ours_ + "attention.";
    if (rank > 0) {
      whole(theirs + "q_a_proj.weight", ours + "q_a", {rank, hidden_});
      whole(theirs + "q_a_layernorm.weight", ours + "q_a_norm", {rank});
      reorder(whole(theirs + "q_b_proj.weight", ours + "q_b", {heads * qk, rank}), qk, nope, rope);
    } else {
      reorder(whole(theirs + "q_proj.weight", ours + "q", {heads * qk, hidden_}), qk, nope, rope);
    }
    reorder(whole(theirs + "kv_a_proj_with_mqa.weight", ours + "kv_a", {latent + rope, hidden_}), latent + rope, latent,
            rope);
    whole(theirs + "kv_a_layernorm.weight", ours + "kv_a_norm", {latent});
    whole(theirs + "kv_b_proj.weight", ours + "kv_b", {heads * (nope + v), latent});
    whole(theirs + "o_proj.weight", ours + "out", {hidden_, heads * v});
  }

  void mlp(const std::string& theirs, const std::string& ours, int64_t ffn) {
    names_.ours[ours + "gate_up"] = {2 * ffn, hidden_};
    part(theirs + "gate_proj.weight", ours + "gate_up", {ffn, hidden_}, 0);
    part(theirs + "up_proj.weight", ours + "gate_up", {ffn, hidden_}, ffn);
    whole(theirs + "down_proj.weight", ours + "down", {hidden_, ffn});
  }

  void moe() {
    const MoeConfig& config = model_.moe();
    const int64_t experts = config.num_experts(), ffn = config.ffn();
    const bool mixtral = architecture_ == HfArchitecture::kMixtral;
    const std::string theirs = theirs_ + (mixtral ? "block_sparse_moe." : "mlp.");
    whole(theirs + "gate.weight", ours_ + "router", {experts, hidden_});
    if (has_selection_bias(architecture_)) {
      const std::string bias = theirs + "gate.e_score_correction_bias";
      HfTensor& tensor = config.router().selection_bias() ? whole(bias, ours_ + "router.bias", {experts})
                                                          : part(bias, "", {experts}, 0);
      tensor.is_bias = true;
    }
    const std::string gate_up = ours_ + "experts.gate_up", down = ours_ + "experts.down";
    names_.ours[gate_up] = {experts, 2 * ffn, hidden_};
    names_.ours[down] = {experts, hidden_, ffn};
    for (int64_t e = 0; e < experts; ++e) {
      const std::string expert = theirs + "experts." + std::to_string(e) + ".";
      part(expert + (mixtral ? "w1" : "gate_proj") + ".weight", gate_up, {ffn, hidden_}, e * 2 * ffn);
      part(expert + (mixtral ? "w3" : "up_proj") + ".weight", gate_up, {ffn, hidden_}, e * 2 * ffn + ffn);
      part(expert + (mixtral ? "w2" : "down_proj") + ".weight", down, {hidden_, ffn}, e * hidden_);
    }
    if (config.num_shared_experts() > 0) {
      mlp(theirs + "shared_experts.", ours_ + "shared.", config.num_shared_experts() * ffn);
    } else if (needs_shared_expert(architecture_)) {
      part(theirs + "shared_experts.gate_proj.weight", "", {ffn, hidden_}, 0);
      part(theirs + "shared_experts.up_proj.weight", "", {ffn, hidden_}, 0);
      part(theirs + "shared_experts.down_proj.weight", "", {hidden_, ffn}, 0);
    }
  }

  const ModelConfig& model_;
  const AttentionConfig& attention_;
  HfArchitecture architecture_;
  int64_t hidden_;
  std::string theirs_, ours_;  // what names of the layer begin with
  HfNames names_;
};

}  // namespace

int64_t HfTensor::source_row(int64_t row) const {
  if (order == RowOrder::kSame) return first_row + row;
  const int64_t head = row / head_rows * head_rows, in_rope = row - head - rope_begin, half = rope_rows / 2;
  if (in_rope < 0 || in_rope >= rope_rows) return first_row + row;
  const int64_t from =
      order == RowOrder::kPairsToHalves ? 2 * (in_rope % half) + in_rope / half : in_rope / 2 + in_rope % 2 * half;
  return first_row + head + rope_begin + from;
}

HfNames hf_names(const ModelConfig& model, HfArchitecture architecture, bool mtp) {
  Names names(model, architecture);
  names.embedding();
  for (int64_t layer = 0; layer < model.layers(); ++layer) names.block(layer);
  names.end();
  for (int64_t depth = 0; mtp && depth < model.mtp().depth(); ++depth) names.mtp(depth);
  return names.take();
}

}  // namespace shoal
