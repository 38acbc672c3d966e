// core/checkpoint/open_tensor_source.cpp: told apart by what lies in the folder.
#include "core/checkpoint/open_tensor_source.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
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

// Further back nobody would want to go unasked.
constexpr size_t kMostCheckpoints = 3;
constexpr const char* kFinalTensors = "model.safetensors";

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

// Why RUN/final/ cannot be used; empty: it opens, or there is none, or its weights were moved aside, as is told where
// no checkpoint can be taken.
std::string mishap_of_final(const std::filesystem::path& final) {
  std::error_code ignored;
  if (!std::filesystem::exists(final, ignored)) return {};
  const bool has_weights = std::filesystem::exists(final / kFinalTensors, ignored);
  if (!has_weights && !final_models_aside(final.parent_path()).empty()) return {};
  try {
    const FinalModel model(final);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

// With or without a COMMIT, newest first.
std::vector<FolderEntry> steps_on_disk(const CheckpointFolder& folder) {
  std::vector<FolderEntry> steps = folder.entries();
  std::erase_if(steps, [](const FolderEntry& entry) { return entry.step < 0; });
  std::sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return steps;
}

}  // namespace

std::vector<std::filesystem::path> find_stored_models(const std::filesystem::path& path) {
  const auto has = [](const std::filesystem::path& file) {
    std::error_code ignored;
    return std::filesystem::exists(file, ignored);
  };
  if (has(path / kManifestName) || has(path / kCommitName)) return {path};
  if (has(path / kFinalTensors)) return {path};
  const std::string final_mishap = mishap_of_final(path / "final");
  const bool has_final = has(path / "final" / kFinalTensors) && final_mishap.empty();
  // Where it does not say, no checkpoint is newer.
  const int64_t no_step = has_final ? std::numeric_limits<int64_t>::max() : -1;
  const int64_t final_step = step_of_final_model(path / "final").value_or(no_step);
  constexpr const char* kExpected = "a run folder, its final/, or a checkpoint such as RUN/checkpoints/step-1000";
  std::error_code ignored;
  if (!has(path)) fail("{}: does not exist; expected {}", path.string(), kExpected);
  if (!std::filesystem::is_directory(path, ignored)) fail("{}: is a file; expected {}", path.string(), kExpected);
  const CheckpointFolder folder(run_of_checkpoint(path));
  std::vector<std::filesystem::path> found;
  std::string mishaps, newer_mishaps;
  for (const FolderEntry& entry : steps_on_disk(folder)) {
    if (entry.step <= final_step) break;
    try {
      found.push_back(NativeCheckpoint(folder.of_step(entry.step)).directory());
    } catch (const Error& error) {
      if (entry.kind == EntryKind::kCheckpoint) mishaps += fmt::format("\n  {}", error.what());
      if (found.empty()) newer_mishaps += fmt::format("{}{}", newer_mishaps.empty() ? "" : "; ", error.what());
    }
    if (found.size() == kMostCheckpoints) break;
  }
  if (has_final) found.push_back(path / "final");
  if (!found.empty() && !newer_mishaps.empty()) {
    spdlog::warn("{}: the newest checkpoint cannot be opened, and an older model is taken, {}: {}", path.string(),
                 found.front().string(), newer_mishaps);
  }
  if (!found.empty() && !final_mishap.empty()) {
    spdlog::warn("{}: its final/ cannot be used, and a checkpoint is taken, {}: {}", path.string(),
                 found.front().string(), final_mishap);
  }
  if (!found.empty()) return found;
  if (!final_mishap.empty()) {
    fail("{}{}", final_mishap, mishaps.empty() ? "" : "; and none of the checkpoints can be used:" + mishaps);
  }
  if (const std::string moved = where_final_went(path); !moved.empty()) {
    fail("{}: {}{}", path.string(), moved,
         mishaps.empty() ? "" : "; and none of the checkpoints can be used:" + mishaps);
  }
  if (!mishaps.empty()) {
    fail("{}: there is no final/, and none of the checkpoints can be used:{}", path.string(), mishaps);
  }
  fail(
      "{}: holds no model: neither final/{}, which train writes at its end, nor a checkpoint that was finished "
      "(checkpoints/step-N)",
      path.string(), kFinalTensors);
}

StoredModel open_stored_model(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / kFinalTensors, ignored) && folder.filename() != "final") {
    return open_checkpoint(folder);
  }
  FinalModel model(folder);
  StoredModel stored;
  stored.config_name = model.config_path().string();
  constexpr int64_t kMaxConfigBytes = 1 << 20;
  stored.config_text = read_small_file(stored.config_name, "the model's config", kMaxConfigBytes);
  stored.tokenizer = model.tokenizer_path();
  stored.tokenizer_place = stored.tokenizer.value_or(model.directory() / "tokenizer.*").string();
  stored.tensors = std::make_unique<FinalTensorSource>(std::move(model));
  return stored;
}

}  // namespace shoal
