// core/checkpoint/final_model.h: RUN/final/, the trained model as generate and evaluate read it.
//
//   model.safetensors   parameters by global name in the compute dtype; router biases "layers.N.router.bias" in f32
//   config.textproto    the resolved config of the run
//   tokenizer.<ext>     a copy of the tokenizer file; absent for the byte tokenizer
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"

namespace shoal {

struct FinalModelParts {
  std::vector<NamedTensor> tensors;
  std::string config_text;
  std::string tokenizer_name;                   // its file's name, of which the extension is kept; empty: it has none
  std::string tokenizer_bytes;                  // the file as it was when training began
  std::map<std::string, std::string> metadata;  // own provenance beside {"format": "pt"}: "step", "producer"
};

// Writes RUN/final/. Called by one rank. Everything is written and synced in RUN/.tmp-final-*, which is then renamed: a
// crash at any instant leaves either no final/ or a whole one. A final/ that was there is replaced; what else lay in it
// stays.
void write_final_model(const std::filesystem::path& run_dir, const FinalModelParts& parts);

// Writes the tensors to `file`, for a model that need not be in memory at once.
using WriteTensors =
    std::function<void(const std::filesystem::path& file, const std::map<std::string, std::string>& metadata)>;
// The same with tensors of the caller's; parts.tensors is not looked at.
void write_final_model(const std::filesystem::path& run_dir, const FinalModelParts& parts,
                       const WriteTensors& write_tensors);

// Moves the weights of a final/ that was written after a later step than this to RUN/aside-final-step-<its step>-<n>,
// with copies of what lies beside them, before a run goes on from here: they are of a future that the run does not
// have. Config and tokenizer stay in final/, for a command that names them (as of an imported model). Where the weights
// went; absent where nothing was to be moved. Called by one rank.
std::optional<std::filesystem::path> set_final_aside_after(const std::filesystem::path& run_dir, int64_t step);

// All that set_final_aside_after has left there, by step and number.
std::vector<std::filesystem::path> final_models_aside(const std::filesystem::path& run_dir);

// Why a run's final/ has no weights, where they were moved aside; empty: they were not. `path`: RUN or RUN/final.
std::string where_final_went(const std::filesystem::path& path);

// The step that a final/ was written after; 0 for one that was imported. Absent where there is none that
// opens, or it does not say.
std::optional<int64_t> step_of_final_model(const std::filesystem::path& final);

// A final model on disk.
class FinalModel {
 public:
  // `path`: the run folder, or its final/ itself. Throws, naming what is missing, when it is neither.
  explicit FinalModel(const std::filesystem::path& path);

  const std::filesystem::path& directory() const { return directory_; }
  std::filesystem::path config_path() const { return directory_ / "config.textproto"; }
  // Absent when the model has no tokenizer file (bytes).
  std::optional<std::filesystem::path> tokenizer_path() const;
  const SafetensorsFile& tensors() const { return tensors_; }

 private:
  std::filesystem::path directory_;
  SafetensorsFile tensors_;
};

}  // namespace shoal
