// core/checkpoint/initial_checkpoint.cpp: files of a few tensors each, as if a rank had written each.
#include "core/checkpoint/initial_checkpoint.h"

#include <vector>

#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/state_file.h"

namespace shoal {

namespace {

Manifest head_of(const std::string& config_text, uint64_t seed) {
  Manifest manifest;
  manifest.set_format(1);
  Progress& progress = *manifest.mutable_progress();
  progress.set_step(0);
  progress.set_sequences(0);
  progress.set_tokens(0);
  progress.set_updates(0);
  progress.set_seed(seed);
  manifest.set_config(config_text);
  return manifest;
}

}  // namespace

void write_initial_checkpoint(const std::filesystem::path& run_dir, const std::string& config_text, uint64_t seed,
                              const TensorSource& source, FileSystem& files, int64_t file_bytes) {
  const CheckpointFolder folder(run_dir, files);
  if (!folder.steps().empty() || folder.has_remains()) {
    fail("{}: holds checkpoints already; choose another run folder", folder.path().string());
  }
  CheckpointWriter writer(folder, files);
  const std::filesystem::path staging = writer.begin(0);
  try {
    Manifest manifest = head_of(config_text, seed);
    ManifestMerger merger(manifest);
    Allocator host(DeviceKind::kCpu);
    std::vector<StatePiece> pieces;
    int64_t bytes = 0;
    int index = 0;
    const auto flush = [&] {
      if (pieces.empty()) return;
      merger.add(write_state_file(files, staging, index++, pieces));
      pieces.clear();
      bytes = 0;
    };
    for (const auto& [name, tensor] : source.tensors()) {
      const Tensor values = Tensor::empty({tensor.shape.numel()}, DType::kF32, host, MemoryKind::kWorkspace);
      if (bytes > 0 && bytes + values.bytes() > file_bytes) flush();
      source.read(name, 0, values);
      pieces.push_back({.name = name, .sharding = whole_tensor(tensor.shape), .begin = 0, .values = values});
      bytes += values.bytes();
    }
    flush();
    const std::string mishap = writer.commit(staging, manifest);
    if (!mishap.empty()) fail("{}: {}", folder.of_step(0).string(), mishap);
  } catch (...) {  // for lack of memory, too
    writer.abandon(staging);
    throw;
  }
}

}  // namespace shoal
