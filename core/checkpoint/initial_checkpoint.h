// core/checkpoint/initial_checkpoint.h: weights from elsewhere as the checkpoint that a run begins from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/checkpoint/file_system.h"
#include "core/checkpoint/tensor_source.h"

namespace shoal {

// Writes RUN/checkpoints/step-0: all tensors of `source` as f32 masters, no moments, nothing trained. `shoal train`
// goes on from there; moments start at zero. Memory: one tensor, or about `file_bytes`, whichever is more. Throws where
// run_dir holds checkpoints already.
void write_initial_checkpoint(const std::filesystem::path& run_dir, const std::string& config_text, uint64_t seed,
                              const TensorSource& source, FileSystem& files = disk(),
                              int64_t file_bytes = int64_t{1} << 30);

}  // namespace shoal
