// core/huggingface/import.h: the folder of a Hugging Face model as a run of ours.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/checkpoint/file_system.h"
#include "core/config/load.h"
#include "core/huggingface/source.h"

namespace shoal {

// The config to train the model on with, or to use it: its network, data.seq_len (its longest sequence, at most 4096),
// data.tokenizer where it brings one; everything else is the default.
LoadedConfig imported_config(const HfTensorSource& source, const std::filesystem::path& run_dir);

// The tokenizer's file in the folder: tokenizer.model, which says more than the tokenizer.json that stands beside it
// where it is SentencePiece's; else tokenizer.json; empty: neither.
std::string hf_tokenizer_name(const HfTensorSource& source);

// Writes RUN/final/, tensors in the dtype that they are stored in (FP8: bf16), piece by piece; and with `to_train`,
// before it, RUN/checkpoints/step-0 in f32, which training goes on from (initial_checkpoint.h; it refuses weights that
// are not finite). Each appears when it is whole and on the disk. `run_dir` is created. Throws, before anything is
// written, where it holds a run or a model already, and where the disk has no room for both.
void import_hf(const HfTensorSource& source, const std::filesystem::path& run_dir, const std::string& producer,
               bool to_train, FileSystem& files = disk());

}  // namespace shoal
