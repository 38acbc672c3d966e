// core/huggingface/import.cpp: tensors by our names, a config, a tokenizer.
#include "core/huggingface/import.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/final_model.h"
#include "core/checkpoint/initial_checkpoint.h"
#include "core/checkpoint/new_folder.h"
#include "core/checkpoint/tensor_copy.h"
#include "core/config/print.h"
#include "core/huggingface/config_keys.h"
#include "data/tokenizer.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxTokenizerBytes = int64_t{64} << 20;
constexpr int64_t kMaxSettingsBytes = int64_t{1} << 20;
constexpr int64_t kMaxSequence = 4096;  // for a start: a promise of a million tokens is not what one trains on

DType dtype_in_final(const SourceTensor& tensor) { return tensor.dtype == DType::kF64 ? DType::kF32 : tensor.dtype; }

void write_tensors(const TensorSource& source, const fs::path& file,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<NamedTensor> described;
  for (const auto& [name, tensor] : source.tensors()) {
    described.push_back({name, tensor.shape, dtype_in_final(tensor)});
  }
  SafetensorsWriter writer(file, std::move(described), metadata);
  TensorCopy copy(source);
  for (const NamedTensor& tensor : writer.tensors()) {
    const int64_t width = tensor.shape.dims() > 1 ? tensor.shape[tensor.shape.dims() - 1] : 1;
    copy.rows(tensor.name, 0, tensor.shape.numel() / width, width, tensor.dtype, writer);
  }
  writer.commit();
}

// Of what those who generate text are told and a run's config has no place for.
void note_settings(const HfTensorSource& source, std::vector<std::string>& notes) {
  const HfConfig& config = source.config();
  if (config.max_positions > kMaxSequence) {
    notes.push_back(fmt::format(
        "it promises sequences of {} tokens: data.seq_len is {} for a start, and `shoal export` promises that, unless "
        "--max-positions says otherwise",
        config.max_positions, kMaxSequence));
  }
  const UntrustedFolder& folder = source.files().folder();
  constexpr const char* kGeneration = "generation_config.json";
  if (!folder.contains(kGeneration)) return;
  try {
    const JsonDocument json(folder.read_text(kGeneration, kMaxSettingsBytes), (folder.path() / kGeneration).string());
    for (const int64_t id : HfConfigKeys(json.root()).integers("eos_token_id")) {
      if (std::ranges::count(config.ids.eos, id) > 0) continue;
      notes.push_back(
          fmt::format("{}'s eos_token_id {}, which config.json does not have, is not kept", kGeneration, id));
    }
  } catch (const Error& error) {
    notes.push_back(fmt::format("left aside: {}", error.what()));
  }
}

}  // namespace

HfTokenizerFile find_hf_tokenizer(const HfTensorSource& source) {
  const UntrustedFolder& folder = source.files().folder();
  HfTokenizerFile found;
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    if (!folder.contains(name)) continue;
    try {
      std::string bytes = folder.read_text(name, kMaxTokenizerBytes);
      const int64_t tokens = open_tokenizer((folder.path() / name).string())->vocab_size();
      if (tokens > source.config().model.vocab()) {
        fail("{}: has {} tokens, the model only {}", (folder.path() / name).string(), tokens,
             source.config().model.vocab());
      }
      found.name = name;
      found.bytes = std::move(bytes);
      break;
    } catch (const Error& error) {
      found.notes.push_back(fmt::format("left aside, for the model cannot be used with it: {}", error.what()));
    }
  }
  if (found.name.empty() && found.notes.empty()) {
    found.notes.emplace_back(folder.contains("vocab.json")
                                 ? "it has no tokenizer: vocab.json and merges.txt are not read, tokenizer.json is"
                                 : "it has no tokenizer.json and no tokenizer.model");
  }
  std::string settings;
  try {
    if (folder.contains("tokenizer_config.json")) {
      settings = folder.read_text("tokenizer_config.json", kMaxTokenizerBytes);
    }
  } catch (const Error& error) {
    found.notes.push_back(fmt::format("left aside: {}", error.what()));
  }
  if (folder.contains("chat_template.jinja") || settings.find("\"chat_template\"") != std::string::npos) {
    found.notes.emplace_back("its chat template is not kept");
  }
  return found;
}

LoadedConfig imported_config(const HfTensorSource& source, const HfTokenizerFile& tokenizer, const fs::path& run_dir) {
  LoadedConfig loaded;
  Config& config = loaded.config;
  *config.mutable_model() = source.config().model;
  config.mutable_data()->set_seq_len(std::min(source.config().max_positions, kMaxSequence));
  if (!tokenizer.name.empty()) config.mutable_data()->set_tokenizer((run_dir / "final" / tokenizer.name).string());
  const HfSpecialIds& ids = source.config().ids;
  HuggingFaceConfig& special = *config.mutable_huggingface();
  if (ids.bos) special.set_bos_id(*ids.bos);
  special.mutable_eos_id()->Add(ids.eos.begin(), ids.eos.end());
  if (ids.pad) special.set_pad_id(*ids.pad);
  config.mutable_run()->set_dir(run_dir.string());
  return loaded;
}

namespace {

void check_unused(const fs::path& run_dir, FileSystem& files) {
  if (files.status(run_dir / "final").kind != FileKind::kAbsent) {
    fail("{}: is there already; choose another run folder, or remove it", (run_dir / "final").string());
  }
  const CheckpointFolder checkpoints(run_dir, files);
  if (!checkpoints.steps().empty() || checkpoints.has_remains()) {
    fail("{}: holds checkpoints already; choose another run folder", checkpoints.path().string());
  }
  if (files.status(run_dir / "metrics.jsonl").kind != FileKind::kAbsent) {
    fail("{}: holds a run already; choose another folder", run_dir.string());
  }
}

int64_t bytes_to_write(const HfTensorSource& source, const FinalModelParts& parts, bool to_train) {
  int64_t bytes = static_cast<int64_t>(parts.tokenizer_bytes.size() + 2 * parts.config_text.size());
  for (const auto& [name, tensor] : source.tensors()) {
    bytes += 1024 + tensor.shape.numel() * (size_of(dtype_in_final(tensor)) + (to_train ? size_of(DType::kF32) : 0));
  }
  return bytes;
}

}  // namespace

std::vector<std::string> import_hf(const HfTensorSource& source, const fs::path& run_dir, const std::string& producer,
                                   bool to_train, FileSystem& files) {
  check_unused(run_dir, files);
  HfTokenizerFile tokenizer = find_hf_tokenizer(source);
  FinalModelParts parts;
  parts.config_text = effective_config_text(imported_config(source, tokenizer, run_dir), Origins::kOmit);
  parts.tokenizer_name = tokenizer.name;
  parts.tokenizer_bytes = std::move(tokenizer.bytes);
  parts.metadata = {{"producer", producer},
                    {"step", "0"},  // older than any checkpoint of a training that goes on from it
                    {"imported_from", std::string(hf_model_type(source.config().architecture))}};
  check_room(run_dir, bytes_to_write(source, parts, to_train), files);
  const std::string mishap = make_folder_synced(run_dir, files, run_dir.string());
  if (!mishap.empty()) spdlog::warn("{}", mishap);
  if (to_train) write_initial_checkpoint(run_dir, parts.config_text, Config().run().seed(), source, files);
  write_final_model(run_dir, parts, [&](const fs::path& file, const std::map<std::string, std::string>& metadata) {
    write_tensors(source, file, metadata);
  });
  note_settings(source, tokenizer.notes);
  return std::move(tokenizer.notes);
}

}  // namespace shoal
