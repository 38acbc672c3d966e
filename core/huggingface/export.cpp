// core/huggingface/export.cpp: plan the files, then write tensor after tensor.
#include "core/huggingface/export.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <system_error>

#include "core/base/atomic_file.h"
#include "core/checkpoint/staged_folder.h"
#include "core/checkpoint/tensor_copy.h"
#include "core/huggingface/names.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

DType dtype_of(const HfTensor& tensor, DType asked) { return tensor.is_bias ? DType::kF32 : asked; }

int64_t bytes_of(const HfTensor& tensor, DType asked) {
  return tensor.shape.numel() * size_of(dtype_of(tensor, asked));
}

void check_tensors(const TensorSource& source, const HfNames& names, const ModelConfig& model, bool mtp) {
  for (const auto& [name, shape] : names.ours) {
    const auto found = source.tensors().find(name);
    if (found == source.tensors().end()) {
      fail("{}: has no tensor \"{}\", which its config describes", source.description(), name);
    }
    if (found->second.shape != shape) {
      fail("{}: tensor \"{}\": its config describes {}, found {}", source.description(), name, shape,
           found->second.shape);
    }
  }
  const auto is_left_out = [&](const std::string& name) {
    for (int64_t depth = 0; !mtp && depth < model.mtp().depth(); ++depth) {
      if (name.starts_with(fmt::format("layers.{}.", model.layers() + depth))) return true;
    }
    return false;
  };
  for (const auto& [name, described] : source.tensors()) {
    if (!names.ours.contains(name) && !is_left_out(name)) {
      fail("{}: holds the tensor \"{}\", which the model of its config does not have", source.description(), name);
    }
  }
}

void check_space(const fs::path& folder, int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < static_cast<uint64_t>(bytes)) {
    fail("{}: {} bytes are to be written, and {} are available; free space there or choose another folder",
         folder.string(), bytes, space.available);
  }
}

// Runs of tensors, a file each.
std::vector<std::vector<const HfTensor*>> plan_shards(const HfNames& names, const HfExportOptions& options) {
  std::vector<std::vector<const HfTensor*>> shards(1);
  int64_t filled = 0;
  for (const HfTensor& tensor : names.tensors) {
    const int64_t bytes = bytes_of(tensor, options.dtype);
    if (filled > 0 && filled + bytes > options.shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(&tensor);
    filled += bytes;
  }
  return shards;
}

// A constant added to all biases of a router changes no choice, and older versions of transformers, which put zeros in
// place of experts that are out of the question, need them at 0 or above.
void write_bias(const TensorSource& source, const HfTensor& tensor, SafetensorsWriter& writer) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor bias = Tensor::empty(tensor.shape, DType::kF32, allocator, MemoryKind::kWorkspace);
  source.read(tensor.source, tensor.first_row, bias);
  float* const values = bias.data<float>();
  const float least = *std::min_element(values, values + bias.numel());
  if (least < 0) {
    for (int64_t i = 0; i < bias.numel(); ++i) values[i] -= least;
  }
  writer.write({bias.raw(), static_cast<size_t>(bias.bytes())});
}

void write_shard(const TensorSource& source, const std::vector<const HfTensor*>& tensors,
                 const HfExportOptions& options, const fs::path& file) {
  std::vector<NamedTensor> described;
  std::map<std::string, const HfTensor*> by_name;
  for (const HfTensor* tensor : tensors) {
    described.push_back({tensor->name, tensor->shape, dtype_of(*tensor, options.dtype)});
    by_name[tensor->name] = tensor;
  }
  std::map<std::string, std::string> metadata = options.metadata;
  metadata["format"] = "pt";  // several loaders insist on it
  SafetensorsWriter writer(file, std::move(described), metadata);
  TensorCopy copy(source);
  for (const NamedTensor& next : writer.tensors()) {
    const HfTensor& tensor = *by_name.at(next.name);
    if (tensor.source.empty()) {
      TensorCopy::zeros(bytes_of(tensor, options.dtype), writer);
    } else if (tensor.is_bias) {
      write_bias(source, tensor, writer);
    } else if (tensor.order == RowOrder::kSame) {
      copy.rows(tensor.source, tensor.first_row, tensor.rows(), tensor.width(), next.dtype, writer);
    } else {
      copy.rows(tensor.source, tensor.rows(), tensor.width(), next.dtype, writer,
                [&](int64_t row) { return tensor.source_row(row); });
    }
  }
  writer.commit();
}

std::vector<std::string> notes_on(const ModelConfig& model, HfArchitecture architecture, bool mtp) {
  std::vector<std::string> notes;
  if (model.has_moe() && needs_shared_expert(architecture) && model.moe().num_shared_experts() == 0) {
    notes.push_back(fmt::format("{} always has a shared expert, and the model has none: one of zeros was written",
                                hf_class(architecture)));
  }
  const RopeConfig& rope = model.attention().rope();
  if (architecture == HfArchitecture::kDeepseekV2 && rope.has_yarn() && rope.yarn().mscale_all_dim() != 0) {
    notes.push_back("transformers 4 leaves YaRN's factor of the softmax out of DeepSeek-V2; transformers 5 has it");
  }
  if (!mtp && model.mtp().depth() > 0) notes.push_back("the blocks of multi-token prediction were left out");
  return notes;
}

}  // namespace

HfExportReport export_hf(const TensorSource& source, const Config& config, const HfExportOptions& options,
                         const fs::path& to) {
  SHOAL_CHECK(options.dtype == DType::kBF16 || options.dtype == DType::kF32, "dtype {}", name_of(options.dtype));
  const ModelConfig& model = config.model();
  HfExportReport report;
  report.architecture = hf_architecture(model, options.mtp);
  const HfNames names = hf_names(model, report.architecture, options.mtp);
  check_tensors(source, names, model, options.mtp);
  report.notes = notes_on(model, report.architecture, options.mtp);
  for (const HfTensor& tensor : names.tensors) {
    report.bytes += bytes_of(tensor, options.dtype);
    if (!tensor.is_copy) report.parameters += tensor.is_bias ? 0 : tensor.shape.numel();
  }
  report.num_tensors = static_cast<int64_t>(names.tensors.size());

  StagedFolder folder(to);
  check_space(folder.path(), report.bytes);
  const auto shards = plan_shards(names, options);
  report.num_files = static_cast<int64_t>(shards.size());
  std::map<std::string, std::string> file_of;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = shards.size() == 1 ? std::string("model.safetensors")
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_shard(source, shards[i], options, folder.path() / file);
    for (const HfTensor* tensor : shards[i]) file_of[tensor->name] = file;
  }
  for (const auto& [name, contents] : options.more) write_text_file(folder.path() / name, contents);
  write_text_file(folder.path() / "generation_config.json", hf_generation_config_json(options.ids));
  const int64_t positions = options.max_positions > 0 ? options.max_positions : config.data().seq_len();
  write_text_file(
      folder.path() / "config.json",
      hf_config_json(model, report.architecture,
                     {.dtype = options.dtype, .max_positions = positions, .mtp = options.mtp, .ids = options.ids}));
  if (shards.size() > 1) {
    const nlohmann::json index = {{"metadata", {{"total_size", report.bytes}}}, {"weight_map", file_of}};
    write_text_file(folder.path() / "model.safetensors.index.json", index.dump(2) + "\n");
  }
  folder.commit();
  return report;
}

}  // namespace shoal
