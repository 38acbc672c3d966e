// core/checkpoint/open_tensor_source.cpp: told apart by what lies in the folder.
#include "core/checkpoint/open_tensor_source.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "core/checkpoint/final_model.h"
#include "core/checkpoint/tensor_source_final.h"

namespace shoal {
namespace {

std::string read_config(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) fail("{}: cannot be read", path.string());
  return text;
}

}  // namespace

StoredModel open_tensor_source(const std::filesystem::path& path) {
  FinalModel model(path);
  StoredModel stored;
  stored.config_name = model.config_path().string();
  stored.config_text = read_config(model.config_path());
  stored.tokenizer = model.tokenizer_path();
  stored.tensors = std::make_unique<FinalTensorSource>(std::move(model));
  return stored;
}

}  // namespace shoal
