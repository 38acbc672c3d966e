// tests/huggingface/hostile_test.cpp: folders that name what they should not, or hold what they do not name.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "core/huggingface/export.h"
#include "core/huggingface/source.h"
#include "tests/huggingface/tiny.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

constexpr const char* kIndex = "there/model.safetensors.index.json";

class ExportedFolder {
 public:
  explicit ExportedFolder(const std::string& type = "llama") {
    const Config config = tiny_config(kTinyModels.at(type));
    const MemorySource source(hf_names(config.model(), hf_architecture(config.model())));
    export_hf(source, config, {.dtype = DType::kF32, .shard_bytes = 1000}, folder / "there");
  }

  OrderedJson json(const std::string& file) const { return OrderedJson::parse(bytes_of_file(folder / file)); }
  void write(const std::string& file, const OrderedJson& json) const { make_file(folder / file, json.dump()); }
  void refused(const std::string& says) const {
    CHECK_THROWS_WITH(HfTensorSource(folder / "there"), Contains(says) && Contains((folder / "there").string()));
  }

  TemporaryFolder folder;
};

TEST_CASE("an index names files of its folder, and nothing else") {
  const ExportedFolder exported;
  make_file(exported.folder / "outside.safetensors", bytes_of_file(exported.folder / "there/config.json"));
  for (const char* name : {"../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "", "a b", "\\u00e9",
                           "a\\nb", "a\\\\b"}) {
    OrderedJson index = exported.json(kIndex);
    index["weight_map"]["model.norm.weight"] = OrderedJson::parse(std::string("\"") + name + "\"");
    INFO(name);
    exported.write(kIndex, index);
    exported.refused("is refused: expected letters A-Z, a-z, 0-9, '.', '_' and '-' only");
    index = exported.json(kIndex);
    index["weight_map"]["model.norm.weight"] = "model-00001-of-00001.safetensors";
    exported.write(kIndex, index);
  }
}

TEST_CASE("an index of many tensors is read in the time that it takes to read it") {
  std::string text = R"({"weight_map": {)";
  for (int i = 0; i < 200'000; ++i) text += fmt::format(R"("{:06}": "a",)", i);
  text.back() = '}';
  CHECK(parse_hf_index(text + "}", "index.json").size() == 200'000);
  CHECK_THROWS_AS(parse_hf_config(text + "}", "config.json"), Error);
}

TEST_CASE("links and what is no file are not followed") {
  const ExportedFolder exported;
  const OrderedJson index = exported.json(kIndex);
  const std::string shard = index["weight_map"]["model.norm.weight"];
  fs::rename(exported.folder / ("there/" + shard), exported.folder / shard);
  fs::create_symlink(exported.folder / shard, exported.folder / ("there/" + shard));
  exported.refused("is a link; links are not followed");
  fs::remove(exported.folder / ("there/" + shard));
  fs::create_directory(exported.folder / ("there/" + shard));
  exported.refused("is not a regular file");
  fs::remove(exported.folder / ("there/" + shard));
  exported.refused(shard + ": cannot be opened: No such file");
}

TEST_CASE("an index must agree with its files") {
  const ExportedFolder exported;
  const OrderedJson good = exported.json(kIndex);
  const std::string norm_shard = good["weight_map"]["model.norm.weight"];
  const std::string first_shard = good["weight_map"]["model.embed_tokens.weight"];
  REQUIRE(norm_shard != first_shard);

  OrderedJson index = good;
  index["weight_map"]["model.norm.weight"] = first_shard;
  exported.write(kIndex, index);
  exported.refused("holds the tensor \"model.norm.weight\", which");
  index = good;
  index["weight_map"].erase("model.norm.weight");
  exported.write(kIndex, index);
  exported.refused("does not list");
  index = good;
  index["weight_map"]["model.more.weight"] = first_shard;
  exported.write(kIndex, index);
  exported.refused(first_shard + ": has no tensor \"model.more.weight\"");
  index = good;
  index["weight_map"]["model.norm.weight"] = 7;
  exported.write(kIndex, index);
  exported.refused("weight_map: \"model.norm.weight\": expected a file name, found 7");
  for (const char* text : {"[]", "{}", "{\"weight_map\": []}", "{\"weight_map\": {}}"}) {
    make_file(exported.folder / kIndex, text);
    exported.refused("weight_map");
  }
  make_file(exported.folder / kIndex, R"({"weight_map": {"a": "x", "a": "y"}})");
  exported.refused("the member \"a\" appears twice");
  exported.write(kIndex, good);
  CHECK_NOTHROW(HfTensorSource(exported.folder / "there"));
}

TEST_CASE("a truncated shard is named") {
  const ExportedFolder exported;
  const std::string shard = exported.json(kIndex)["weight_map"]["model.norm.weight"];
  const std::string bytes = bytes_of_file(exported.folder / ("there/" + shard));
  for (size_t size = 0; size < bytes.size(); size += 1 + size / 7) {
    make_file(exported.folder / ("there/" + shard), bytes.substr(0, size));
    exported.refused(shard);
  }
}

TEST_CASE("a folder without what it takes says so") {
  const ExportedFolder exported;
  fs::remove(exported.folder / kIndex);
  exported.refused("has neither model.safetensors nor model.safetensors.index.json");
  make_file(exported.folder / "there/model.safetensors", "");
  make_file(exported.folder / kIndex, "{}");
  exported.refused("has both");
  fs::remove(exported.folder / "there/config.json");
  exported.refused("has no config.json");
  CHECK_THROWS_WITH(HfTensorSource(exported.folder / "absent"), Contains("absent: the folder cannot be opened"));
}

// The exported model with one key of its config changed.
void refused_with(const std::string& type, const std::string& key, const OrderedJson& value, const std::string& says) {
  const ExportedFolder exported(type);
  OrderedJson json = exported.json("there/config.json");
  json[key] = value;
  exported.write("there/config.json", json);
  INFO(type << " " << key);
  exported.refused(says);
}

TEST_CASE("a config that does not fit the tensors is refused") {
  refused_with("llama", "num_hidden_layers", 3, "tensors are missing: \"model.layers.2.input_layernorm.weight\"");
  refused_with("llama", "num_hidden_layers", 1, "tensors that the model of its config.json does not have");
  refused_with("llama", "hidden_size", 10, "expected shape [12, 10]");
  refused_with("llama", "tie_word_embeddings", false, "1 of 21 tensors are missing: \"lm_head.weight\"");
  refused_with("mixtral", "num_local_experts", 5, "block_sparse_moe.gate.weight\": expected shape [5, 8]");
  refused_with("deepseek_v3", "num_nextn_predict_layers", 0, "does not have");
}

// A text with a few bytes of it changed, dropped or repeated.
std::string mutated(std::string text, std::mt19937& random) {
  for (uint32_t edits = 1 + random() % 3; edits > 0 && !text.empty(); --edits) {
    const size_t at = random() % text.size();
    const size_t length = std::min<size_t>(1 + random() % 8, text.size() - at);
    switch (random() % 4) {
      case 0: text[at] = static_cast<char>(random()); break;
      case 1: text.erase(at, length); break;
      case 2: text.insert(at, text.substr(random() % text.size(), length)); break;
      default: text[at] = "0123456789-\"{}[],:.e"[random() % 20]; break;
    }
  }
  return text;
}

// 1: read, 0: refused; anything else is thrown on.
template <class Read>
int tried(Read read) {
  try {
    read();
    return 1;
  } catch (const Error&) {
    return 0;
  }
}

TEST_CASE("mutated configs and indices are read or refused") {
  std::mt19937 random(7);  // the same every time
  int read = 0, runs = 0;
  for (const auto& [type, model] : kTinyModels) {
    const ExportedFolder exported(type);
    const std::string config = bytes_of_file(exported.folder / "there/config.json");
    const std::string index = bytes_of_file(exported.folder / kIndex);
    for (int i = 0; i < 1000; ++i) {
      const std::string other_config = mutated(config, random), other_index = mutated(index, random);
      read += tried([&] { parse_hf_config(other_config, "config.json"); });
      read += tried([&] { parse_hf_index(other_index, "index.json"); });
      runs += 2;
    }
    for (int i = 0; i < 40; ++i) {
      make_file(exported.folder / "there/config.json", i % 2 == 0 ? mutated(config, random) : config);
      make_file(exported.folder / kIndex, i % 2 == 1 ? mutated(index, random) : index);
      read += tried([&] { HfTensorSource(exported.folder / "there"); });
      ++runs;
    }
  }
  CHECK(read > runs / 20);
  CHECK(read < runs);
}

TEST_CASE("claims beyond the files' size are refused before anything is made for them") {
  refused_with("llama", "num_hidden_layers", 9999, "describes 9999 layers");
  refused_with("llama", "num_hidden_layers", 999'999'999'999, "model.layers");
  refused_with("mixtral", "num_local_experts", 100'000, "of 100000 experts");
  refused_with("deepseek_v3", "n_routed_experts", 999'999'999, "num_experts");
  refused_with("deepseek_v3", "num_nextn_predict_layers", 999'999, "mtp.depth");
  refused_with("llama", "vocab_size", 9'999'999'999, "model.vocab");
}

}  // namespace
}  // namespace shoal
