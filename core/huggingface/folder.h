// core/huggingface/folder.h: a Hugging Face model folder: which tensor lies in which file.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/untrusted_folder.h"

namespace shoal {

// The weight_map of a model.safetensors.index.json: tensor → file, as named: not looked at yet. Throws Error naming
// `file`.
std::map<std::string, std::string> parse_hf_index(const std::string& text, const std::string& file);

// model.safetensors, or the shards that model.safetensors.index.json names. Opened and checked as a whole: every tensor
// of the index is in the file it names, and in no other; no file holds a tensor that the index does not have. Throws
// Error that names the file, and the tensor.
class HfFolder {
 public:
  explicit HfFolder(const std::filesystem::path& path);

  const UntrustedFolder& folder() const { return folder_; }
  std::string config_text() const;
  // "config.json" with the folder: for messages.
  std::string config_name() const;

  struct Place {
    const SafetensorsFile* file = nullptr;
    const StoredTensor* tensor = nullptr;
  };
  const std::map<std::string, Place>& tensors() const { return tensors_; }

 private:
  void open_shards(const std::string& index_name);

  UntrustedFolder folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> tensors_;
};

}  // namespace shoal
