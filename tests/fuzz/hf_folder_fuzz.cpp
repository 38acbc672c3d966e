// tests/fuzz/hf_folder_fuzz.cpp: a Hugging Face model's folder: every tensor of ours that its files make up.
//
// The input is up to four parts (take_part): config.json, the index, a.safetensors, b.safetensors. With an empty index
// the third is model.safetensors.
#include "core/base/check.h"
#include "core/checkpoint/safetensors_header.h"
#include "core/huggingface/config_keys.h"
#include "core/huggingface/source.h"
#include "tests/fuzz/json_fuzz.h"
#include "tests/huggingface/tiny.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  const std::filesystem::path folder =
      std::filesystem::path(scratch_file("hf/config.json", take_part(input))).parent_path();
  const std::string_view index = take_part(input), a = take_part(input);
  const auto put = [&](const std::string& name, bool wanted, std::string_view bytes) {
    if (wanted) {
      scratch_file("hf/" + name, bytes);
    } else {
      std::filesystem::remove(folder / name);
    }
  };
  put("model.safetensors.index.json", !index.empty(), index);
  put("model.safetensors", index.empty(), a);
  put("a.safetensors", !index.empty(), a);
  put("b.safetensors", !input.empty(), input);
  const HfTensorSource source(folder);
  for (const auto& [name, tensor] : source.tensors()) {
    if (tensor.shape.numel() <= 1 << 16) read_all(source, name);
  }
}

// The bytes of a safetensors file: each tensor is zeros of f32, or FP8 with its scales.
std::string tensors_file(const std::vector<HfTensor>& tensors, bool fp8 = false) {
  std::string header = "{", data;
  const auto add = [&](const std::string& name, const std::string& dtype, const Shape& shape, int64_t element_bytes) {
    const size_t begin = data.size();
    data.resize(begin + static_cast<size_t>(shape.numel() * element_bytes));
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", header.size() > 1 ? "," : "",
                          name, dtype, shape, begin, data.size());
  };
  for (const HfTensor& tensor : tensors) {
    const bool codes = fp8 && tensor.shape.dims() == 2;
    add(tensor.name, codes ? "F8_E4M3" : "F32", tensor.shape, codes ? 1 : 4);
    if (codes) add(tensor.name + "_scale_inv", "F32", {1, 1}, 4);
  }
  header += "}";
  return bytes_of(static_cast<uint64_t>(header.size())) + header + data;
}

struct Model {
  explicit Model(const std::string& type) {
    const Config ours = tiny_config(kTinyModels.at(type));
    const HfArchitecture architecture = hf_architecture(ours.model());
    config = hf_config_json(ours.model(), architecture, {.max_positions = 32});
    tensors = hf_names(ours.model(), architecture).tensors;
  }
  // In two files.
  std::string sharded() const {
    const auto middle = tensors.begin() + static_cast<int64_t>(tensors.size() / 2);
    return with_index(index().dump(), tensors_file({tensors.begin(), middle}), tensors_file({middle, tensors.end()}));
  }
  OrderedJson index() const {
    OrderedJson map;
    for (size_t i = 0; i < tensors.size(); ++i) {
      map[tensors[i].name] = i < tensors.size() / 2 ? "a.safetensors" : "b.safetensors";
    }
    return {{"metadata", {{"total_size", 1}}}, {"weight_map", map}};
  }
  std::string with_index(const std::string& index, const std::string& a, const std::string& b = {}) const {
    std::string all = config;
    for (const std::string& part : {index, a}) all.append(kBetween).append(part);
    return b.empty() ? all : all.append(kBetween).append(b);
  }

  std::string config;
  std::vector<HfTensor> tensors;
};

std::vector<Seed> seeds() {
  std::vector<Seed> all;
  for (const char* type : {"llama", "mixtral", "deepseek_v3", "glm4_moe"}) {
    const Model model(type);
    all.emplace_back(model.sharded(), kSound);
    all.emplace_back(model.with_index("", tensors_file(model.tensors)), kSound);
    all.emplace_back(model.with_index("", tensors_file(model.tensors, true)), kSound);
  }
  Model halves("deepseek_v3");  // its rows are pairs, unless its config says otherwise
  halves.config.insert(halves.config.find('{') + 1, "\"rope_interleave\": false,");
  all.emplace_back(halves.with_index("", tensors_file(halves.tensors)), kSound);
  const Model llama("llama");
  const std::string file = tensors_file(llama.tensors);
  const auto indexed = [&](const OrderedJson& index, const char* says) {
    all.emplace_back(llama.with_index(index.dump(), file), says);
  };
  OrderedJson good = llama.index();
  for (auto& [name, shard] : good["weight_map"].items()) shard = "a.safetensors";
  indexed(good, "");
  for (const char* name : {"../a.safetensors", "/etc/passwd", "..", ".", "", "a b", "a\nb", "config.json/.."}) {
    OrderedJson index = good;
    index["weight_map"]["model.norm.weight"] = name;
    indexed(index, "is refused: expected letters");
  }
  const auto changed = [&](const OrderedJson& shard, const char* says) {
    OrderedJson index = good;
    index["weight_map"]["model.norm.weight"] = shard;
    indexed(index, says);
  };
  changed("c.safetensors", "places in c.safetensors");
  changed("config.json", "config.json");
  changed(7, "expected a file name, found 7");
  changed({{"a", {"b", {"c", 1}}}}, "expected a file name, found {\"a\":");
  OrderedJson absent = good;
  absent["weight_map"]["more"] = "c.safetensors";
  indexed(absent, "c.safetensors: cannot be opened");
  indexed({{"weight_map", OrderedJson::object()}}, "weight_map is empty");
  indexed({{"weight_map", nullptr}}, "expected an object with a weight_map");
  good["weight_map"]["model.more.weight"] = "a.safetensors";
  indexed(good, "has no tensor \"model.more.weight\"");
  good["weight_map"].erase("model.norm.weight");
  indexed(good, "which");
  for (const Seed& seed : json_seeds(llama.index().dump(), "weight_map")) {
    all.push_back(llama.with_index(seed.bytes.substr(0, 5000), file));
  }
  std::vector<HfTensor> fewer(llama.tensors.begin(), llama.tensors.end() - 1);
  all.emplace_back(llama.with_index("", tensors_file(fewer)), "tensors are missing");
  all.emplace_back(llama.with_index("", file.substr(0, file.size() - 1)), "bytes of data");
  all.emplace_back(std::string(kBetween) + std::string(kBetween) + file, "config.json: is not JSON");
  all.emplace_back("", "holds 0 bytes");
  return all;
}

const Registered registered({"hf_folder", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
