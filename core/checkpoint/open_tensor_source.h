// core/checkpoint/open_tensor_source.h: a model of ours on disk, whatever it is stored as.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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

// The stored models that `path` may mean, by their folders, the best first; more than one only for a run folder whose
// final/ does not count (or its checkpoints/): the newest few checkpoints that open.
//
//   RUN, RUN/final            the final model
//   RUN, RUN/checkpoints      where there is no final/ that opens, or the run went on after it was written: checkpoints
//                             after it, newest first, whose data is verified when read; then final/ itself
//   RUN/checkpoints/step-N    that one
//
// Where a newer checkpoint or a final/ is there that does not open, a warning says so, and what is taken. Throws Error,
// naming what is missing, where there is none.
std::vector<std::filesystem::path> find_stored_models(const std::filesystem::path& path);

// Opens a folder that find_stored_models() names.
StoredModel open_stored_model(const std::filesystem::path& folder);

// The first that `path` may mean.
inline StoredModel open_tensor_source(const std::filesystem::path& path) {
  return open_stored_model(find_stored_models(path).front());
}

}  // namespace shoal
