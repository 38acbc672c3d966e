// core/huggingface/export.h: a model of ours as the folder of a Hugging Face model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/tensor_source.h"
#include "core/config/config.pb.h"
#include "core/huggingface/config.h"

namespace shoal {

struct HfExportOptions {
  DType dtype = DType::kBF16;                        // or kF32; router biases are f32 always
  int64_t shard_bytes = 5'000'000'000;               // of tensors in one file; a larger tensor has a file of its own
  int64_t max_positions = 0;                         // 0: the config's data.seq_len
  bool mtp = true;                                   // false: without the blocks of multi-token prediction
  HfSpecialIds ids = {};                             // for config.json and generation_config.json
  std::map<std::string, std::string> more = {};      // further files: the tokenizer's
  std::map<std::string, std::string> metadata = {};  // of the tensor files, beside {"format": "pt"}: "producer"
};

struct HfExportReport {
  HfArchitecture architecture = HfArchitecture::kLlama;
  int64_t num_tensors = 0, num_files = 0, parameters = 0, bytes = 0;
  std::vector<std::string> notes;
};

// Writes `to`, which must not be there or be an empty folder: in a folder beside it that is renamed at the end, so that
// it is whole or not there. Every file is synced; model.safetensors.index.json comes last, and is absent where all
// tensors fit into model.safetensors. Memory stays at a few MiB: tensors are read and written piece by piece.
//
// Throws Error, before anything is written, for a model that no architecture can express (architecture.h), for
// tensors that are missing, too many, or of another shape than `config` says, and where the disk is too small.
HfExportReport export_hf(const TensorSource& source, const Config& config, const HfExportOptions& options,
                         const std::filesystem::path& to);

}  // namespace shoal
