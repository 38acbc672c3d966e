// core/checkpoint/open_tensor_source.h: a model of ours on disk, whatever it is stored as.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/checkpoint/tensor_source.h"

namespace shoal {

struct StoredModel {
  std::unique_ptr<TensorSource> tensors;
  std::string config_text;                         // of the run
  std::string config_name;                         // for messages
  std::optional<std::filesystem::path> tokenizer;  // a file; absent for the byte tokenizer, or where it is missing
  std::string tokenizer_place;                     // where it is, or should be: for messages
  std::string tokenizer_fingerprint;               // as it was trained with; empty: not recorded (final/ has a copy)
  bool is_checkpoint = false;                      // not final/
};

// `path`: a run folder, of which final/ is taken, or else the newest checkpoint that opens; or one of these itself.
// Throws Error, naming what is missing.
StoredModel open_tensor_source(const std::filesystem::path& path);

}  // namespace shoal
