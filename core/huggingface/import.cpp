// core/huggingface/import.cpp: tensors by our names, a config, a tokenizer.
#include "core/huggingface/import.h"

#include <algorithm>
#include <system_error>

#include "core/checkpoint/final_model.h"
#include "core/checkpoint/initial_checkpoint.h"
#include "core/checkpoint/tensor_copy.h"
#include "core/config/print.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxTokenizerBytes = int64_t{64} << 20;
constexpr int64_t kMaxSequence = 4096;  // for a start: a promise of a million tokens is not what one trains on

void write_tensors(const TensorSource& source, const fs::path& file,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<NamedTensor> described;
  for (const auto& [name, tensor] : source.tensors()) {
    described.push_back({name, tensor.shape, tensor.dtype == DType::kF64 ? DType::kF32 : tensor.dtype});
  }
  SafetensorsWriter writer(file, std::move(described), metadata);
  TensorCopy copy(source);
  for (const NamedTensor& tensor : writer.tensors()) {
    const int64_t width = tensor.shape.dims() > 1 ? tensor.shape[tensor.shape.dims() - 1] : 1;
    copy.rows(tensor.name, 0, tensor.shape.numel() / width, width, tensor.dtype, writer);
  }
  writer.commit();
}

}  // namespace

std::string hf_tokenizer_name(const HfTensorSource& source) {
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    if (source.files().folder().contains(name)) return name;
  }
  return "";
}

LoadedConfig imported_config(const HfTensorSource& source, const fs::path& run_dir) {
  LoadedConfig loaded;
  Config& config = loaded.config;
  *config.mutable_model() = source.config().model;
  config.mutable_data()->set_seq_len(std::min(source.config().max_positions, kMaxSequence));
  const std::string tokenizer = hf_tokenizer_name(source);
  if (!tokenizer.empty()) config.mutable_data()->set_tokenizer((run_dir / "final" / tokenizer).string());
  config.mutable_run()->set_dir(run_dir.string());
  return loaded;
}

void import_hf(const HfTensorSource& source, const fs::path& run_dir, const std::string& producer, bool to_train) {
  std::error_code error;
  if (fs::exists(run_dir / "final", error)) {
    fail("{}: is there already; choose another run folder, or remove it", (run_dir / "final").string());
  }
  fs::create_directories(run_dir, error);
  if (error) fail("{}: cannot be created: {}", run_dir.string(), error.message());
  FinalModelParts parts;
  parts.config_text = effective_config_text(imported_config(source, run_dir), Origins::kOmit);
  parts.tokenizer_name = hf_tokenizer_name(source);
  if (!parts.tokenizer_name.empty()) {
    parts.tokenizer_bytes = source.files().folder().read_text(parts.tokenizer_name, kMaxTokenizerBytes);
  }
  parts.metadata = {{"producer", producer},
                    {"imported_from", std::string(hf_model_type(source.config().architecture))}};
  write_final_model(run_dir, parts, [&](const fs::path& file, const std::map<std::string, std::string>& metadata) {
    write_tensors(source, file, metadata);
  });
  if (to_train) write_initial_checkpoint(run_dir, parts.config_text, Config().run().seed(), source);
}

}  // namespace shoal
