// core/huggingface/folder.cpp: the index is a claim; the files' headers are held against it.
#include "core/huggingface/folder.h"

#include <set>

#include "core/base/check.h"
#include "core/base/json_text.h"
#include "core/base/json_value.h"

namespace shoal {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kConfig = "config.json";
// DeepSeek-V3's, of 92 thousand tensors, has 9 MB. As a tree a text takes a dozen times its size.
constexpr int64_t kMaxIndexBytes = int64_t{32} << 20;
constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;

}  // namespace

std::map<std::string, std::string> parse_hf_index(const std::string& text, const std::string& file) {
  const JsonDocument json(text, file);
  const JsonValue root = json.root();
  if (!root.has("weight_map") || !root.at("weight_map").is_object()) {
    fail("{}: expected an object with a weight_map, which names each tensor's file", file);
  }
  const JsonValue shards = root.at("weight_map");
  std::map<std::string, std::string> map;
  for (const std::string& tensor : shards.keys()) {
    const JsonValue shard = shards.at(tensor);
    if (!shard.is_string()) {
      fail("{}: weight_map: \"{}\": expected a file name, found {}", file, shown_text(tensor), shard.shown());
    }
    map[tensor] = shard.string();
  }
  if (map.empty()) fail("{}: its weight_map is empty", file);
  return map;
}

HfFolder::HfFolder(const std::filesystem::path& path) : folder_(path) {
  if (!folder_.contains(kConfig)) {
    fail("{}: has no {}; expected the folder of a Hugging Face model", path.string(), kConfig);
  }
  const bool single = folder_.contains(kSingle), sharded = folder_.contains(kIndex);
  if (single && sharded) {
    fail("{}: has both {} and {}; engines differ in which they read: remove one", path.string(), kSingle, kIndex);
  }
  if (!single && !sharded) {
    fail("{}: has neither {} nor {}; an export that was interrupted has none either", path.string(), kSingle, kIndex);
  }
  if (sharded) {
    open_shards(kIndex);
    return;
  }
  files_.emplace_back(folder_.open(kSingle), path / kSingle);
  for (const StoredTensor& tensor : files_[0].tensors()) tensors_[tensor.name] = {&files_[0], &tensor};
}

void HfFolder::open_shards(const std::string& index_name) {
  const std::string index = (folder_.path() / index_name).string();
  const std::map<std::string, std::string> shard_of =
      parse_hf_index(folder_.read_text(index_name, kMaxIndexBytes), index);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
  for (const std::string& shard : shards) folder_.check_name(shard);
  files_.reserve(shards.size());  // places point into it
  for (const std::string& shard : shards) {
    files_.emplace_back(folder_.open(shard), folder_.path() / shard);
    for (const StoredTensor& tensor : files_.back().tensors()) {
      const auto listed = shard_of.find(tensor.name);
      if (listed == shard_of.end()) {
        fail("{}: holds the tensor \"{}\", which {} does not list", files_.back().path().string(),
             shown_text(tensor.name), index);
      }
      if (listed->second != shard) {
        fail("{}: holds the tensor \"{}\", which {} places in {}", files_.back().path().string(),
             shown_text(tensor.name), index, listed->second);
      }
      tensors_[tensor.name] = {&files_.back(), &tensor};
    }
  }
  for (const auto& [tensor, shard] : shard_of) {
    if (tensors_.contains(tensor)) continue;
    fail("{}: has no tensor \"{}\", which {} places in it", (folder_.path() / shard).string(), shown_text(tensor),
         index);
  }
}

std::string HfFolder::config_name() const { return (folder_.path() / kConfig).string(); }
std::string HfFolder::config_text() const { return folder_.read_text(kConfig, kMaxConfigBytes); }

}  // namespace shoal
