// core/huggingface/import.h: the folder of a Hugging Face model as a run of ours.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/checkpoint/file_system.h"
#include "core/config/load.h"
#include "core/huggingface/source.h"

namespace shoal {

// A folder's tokenizer: tokenizer.model, which says more than the tokenizer.json that stands beside it where it is
// SentencePiece's; else tokenizer.json.
struct HfTokenizerFile {
  std::string name;  // empty: none that this model can be used with
  std::string bytes;
  std::vector<std::string> notes;  // what is there and was left aside, and why
};
HfTokenizerFile find_hf_tokenizer(const HfTensorSource& source);

// The config to train the model on with, or to use it: its network, data.seq_len (its longest sequence, at most 4096),
// data.tokenizer and ids of special tokens where it brings them; everything else is the default.
LoadedConfig imported_config(const HfTensorSource& source, const HfTokenizerFile& tokenizer,
                             const std::filesystem::path& run_dir);

// Writes RUN/final/, tensors in the dtype that they are stored in (FP8: bf16), piece by piece; and with `to_train`,
// before it, RUN/checkpoints/step-0 in f32, which training goes on from (initial_checkpoint.h). Each appears when it is
// whole and on the disk. `run_dir` is created. Throws, before anything is written, where it holds a run or a model
// already, and where the disk has no room for both; and on the way for values that are not finite (source.h). Returns
// what people should know, beside source.notes().
std::vector<std::string> import_hf(const HfTensorSource& source, const std::filesystem::path& run_dir,
                                   const std::string& producer, bool to_train, FileSystem& files = disk());

}  // namespace shoal
