// tests/huggingface/tiny.h: tiny models of every architecture, and weights that live in memory.
#pragma once

#include <nlohmann/json.hpp>

#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "core/checkpoint/tensor_source.h"
#include "core/config/load.h"
#include "core/huggingface/names.h"

namespace shoal {

using OrderedJson = nlohmann::ordered_json;

inline Config tiny_config(const std::string& model) {
  return parse_config(
             "model { name: \"tiny\" vocab: 12 hidden: 8 layers: 2 ffn: 6 " + model + " } data { seq_len: 32 }", "tiny")
      .config;
}

inline const std::string kMla =
    "attention { kind: MLA heads: 2 q_lora_rank: 5 kv_lora_rank: 4 qk_nope_head_dim: 2 qk_rope_head_dim: 4 "
    "v_head_dim: 3 rope { layout: INTERLEAVED } } ";

inline std::string experts(const std::string& router, const std::string& more = "first_dense_layers: 1") {
  return "moe { num_experts: 4 topk: 2 ffn: 3 " + more + " router { " + router + " } } ";
}

// By model_type.
inline const std::map<std::string, std::string> kTinyModels = {
    {"deepseek_v3",
     kMla +
         experts("score: SIGMOID selection_bias: true num_groups: 2", "first_dense_layers: 1 num_shared_experts: 2") +
         "mtp { depth: 1 }"},
    {"deepseek_v2",
     kMla + experts("score: SOFTMAX normalize_topk: false", "first_dense_layers: 1 num_shared_experts: 1")},
    {"glm4_moe",
     "attention { heads: 2 kv_heads: 1 } " + experts("score: SIGMOID selection_bias: true", "num_shared_experts: 1")},
    {"qwen3_moe", "attention { heads: 2 kv_heads: 1 head_dim: 6 qk_norm: PER_HEAD } " + experts("score: SOFTMAX")},
    {"olmoe", "attention { heads: 2 qk_norm: FULL_WIDTH } " + experts("score: SOFTMAX normalize_topk: false", "")},
    {"mixtral", "attention { heads: 2 } " + experts("score: SOFTMAX", "")},
    {"qwen3", "attention { heads: 2 head_dim: 6 qk_norm: PER_HEAD }"},
    {"llama", "attention { heads: 2 kv_heads: 1 } tie_embeddings: true"},
};

// Every value of every tensor is another, and none needs more than bf16 has until they are many.
class MemorySource final : public TensorSource {
 public:
  explicit MemorySource(const HfNames& names, DType dtype = DType::kF32) {
    float next = 0;
    for (const auto& [name, shape] : names.ours) {
      tensors_[name] = {shape, dtype};
      std::vector<float>& values = values_[name];
      for (int64_t i = 0; i < shape.numel(); ++i) values.push_back(next++ * 0.25f);
    }
  }

  std::string description() const override { return "memory"; }
  const std::map<std::string, SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, int64_t begin, const Tensor& out) const override {
    const std::vector<float>& values = values_.at(name);
    dispatch_floating(out.dtype(), [&]<class T>(T) {
      for (int64_t i = 0; i < out.numel(); ++i) {
        out.data<T>()[i] = static_cast<T>(values.at(static_cast<size_t>(begin + i)));
      }
    });
  }

  std::vector<float>& values(const std::string& name) { return values_.at(name); }
  std::map<std::string, SourceTensor>& described() { return tensors_; }

 private:
  std::map<std::string, SourceTensor> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

// All of a tensor, as f32.
inline std::vector<float> read_all(const TensorSource& source, const std::string& name) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor whole = Tensor::empty(source.tensors().at(name).shape, DType::kF32, allocator, MemoryKind::kWorkspace);
  source.read(name, 0, whole);
  return whole.to_vector<float>();
}

}  // namespace shoal
