// core/checkpoint/open_tensor_source.cpp: told apart by what lies in the folder.
#include "core/checkpoint/open_tensor_source.h"

#include <system_error>
#include <utility>

#include "core/base/input_file.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/final_model.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/tensor_source_final.h"
#include "core/config/load.h"

namespace shoal {
namespace {

StoredModel open_checkpoint(const std::filesystem::path& directory) {
  const auto checkpoint = std::make_shared<const NativeCheckpoint>(directory);
  StoredModel stored;
  stored.config_name = directory / kManifestName;
  stored.config_text = checkpoint->manifest().config();
  // The file that the run names; it was no part of the checkpoint.
  const std::string tokenizer = parse_config(stored.config_text, stored.config_name).config.data().tokenizer();
  std::error_code ignored;
  if (std::filesystem::is_regular_file(tokenizer, ignored)) stored.tokenizer = tokenizer;
  stored.tensors = weights_of(checkpoint);
  return stored;
}

}  // namespace

StoredModel open_tensor_source(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool is_checkpoint = std::filesystem::exists(path / kManifestName, ignored);
  const bool has_final = std::filesystem::exists(path / "final", ignored);
  if (is_checkpoint || (!has_final && !CheckpointFolder(path).steps().empty())) {
    return open_checkpoint(find_checkpoint(path, 0));
  }
  FinalModel model(path);
  StoredModel stored;
  stored.config_name = model.config_path().string();
  constexpr int64_t kMaxConfigBytes = 1 << 20;
  stored.config_text = read_small_file(stored.config_name, "the model's config", kMaxConfigBytes);
  stored.tokenizer = model.tokenizer_path();
  stored.tensors = std::make_unique<FinalTensorSource>(std::move(model));
  return stored;
}

}  // namespace shoal
