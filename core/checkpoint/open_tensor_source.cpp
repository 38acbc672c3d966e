// core/checkpoint/open_tensor_source.cpp: told apart by what lies in the folder.
#include "core/checkpoint/open_tensor_source.h"

#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/final_model.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/tensor_source_final.h"
#include "core/config/load.h"

namespace shoal {
namespace {

std::string read_config(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) fail("{}: cannot be read", path.string());
  return text;
}

StoredModel open_checkpoint(const std::filesystem::path& directory) {
  const auto checkpoint = std::make_shared<const NativeCheckpoint>(directory);
  StoredModel stored;
  stored.config_name = directory / kManifestName;
  stored.config_text = checkpoint->manifest().config();
  // The file that the run names; it was no part of the checkpoint, which only tells what it was like.
  const std::string tokenizer = parse_config(stored.config_text, stored.config_name).config.data().tokenizer();
  std::error_code ignored;
  if (std::filesystem::is_regular_file(tokenizer, ignored)) stored.tokenizer = tokenizer;
  stored.tokenizer_place = std::filesystem::absolute(tokenizer, ignored).string();
  stored.tokenizer_fingerprint = checkpoint->manifest().data().tokenizer();
  stored.is_checkpoint = true;
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
  stored.config_text = read_config(model.config_path());
  stored.tokenizer = model.tokenizer_path();
  stored.tokenizer_place = stored.tokenizer.value_or(model.directory() / "tokenizer.*").string();
  stored.tensors = std::make_unique<FinalTensorSource>(std::move(model));
  return stored;
}

}  // namespace shoal
