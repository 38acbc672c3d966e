// core/huggingface/config.h: config.json of a Hugging Face model, made from a model config of ours and read into one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/huggingface/architecture.h"

namespace shoal {

// Token ids with a meaning to those who generate text.
struct HfSpecialIds {
  std::optional<int64_t> bos;
  std::vector<int64_t> eos;
  std::optional<int64_t> pad;
};

struct HfConfigOptions {
  DType dtype = DType::kBF16;  // of the weights
  int64_t max_positions = 0;   // the longest sequence it promises; with YaRN it is factor * original_max_position
  bool mtp = true;
  HfSpecialIds ids = {};
};

// The keys that DeepSeek's release has (transformers reads them in every version, other engines too).
std::string hf_config_json(const ModelConfig& model, HfArchitecture architecture, const HfConfigOptions& options);
std::string hf_generation_config_json(const HfSpecialIds& ids);

struct HfConfig {
  HfArchitecture architecture = HfArchitecture::kLlama;
  ModelConfig model;
  int64_t max_positions = 0;
  HfSpecialIds ids = {};
  bool is_fp8 = false;                    // weights have block scales beside them
  std::vector<std::string> notes;         // what was left aside, and why
  std::vector<std::string> unknown_keys;  // which nobody here understands, in the file's order
};

// Throws Error, naming `file` and the key, for what is damaged, missing, or asks for arithmetic that Shoal lacks.
// The model is not validated as a whole (core/config/validate.h).
HfConfig parse_hf_config(std::string_view text, const std::string& file);

}  // namespace shoal
