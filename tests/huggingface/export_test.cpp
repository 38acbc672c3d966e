// tests/huggingface/export_test.cpp: out and back again: the same bits, in files that others can read.
#include "core/huggingface/export.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/open_tensor_source.h"
#include "core/huggingface/import.h"
#include "tests/checkpoint/failing_file_system.h"
#include "tests/huggingface/tiny.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

HfNames names_of(const Config& config) { return hf_names(config.model(), hf_architecture(config.model())); }

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST_CASE("every architecture is exported, imported and exported again, bitwise") {
  for (const auto& [type, text] : kTinyModels) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      INFO(type << " " << name_of(dtype));
      const TemporaryFolder folder;
      const Config config = tiny_config(text);
      const MemorySource source(names_of(config));
      const HfExportOptions options{.dtype = dtype, .shard_bytes = dtype == DType::kF32 ? 2000 : 1 << 30};
      const HfExportReport report = export_hf(source, config, options, folder / "there");
      CHECK(hf_model_type(report.architecture) == type);
      CHECK((report.num_files > 1) == (dtype == DType::kF32));
      CHECK(fs::exists(folder / "there/model.safetensors.index.json") == (dtype == DType::kF32));

      const HfTensorSource there(folder / "there");
      CHECK(there.notes().empty());
      import_hf(there, folder / "run", "test", true);
      const StoredModel back = open_tensor_source(folder / "run");
      const StoredModel start = open_tensor_source(folder / "run/checkpoints/step-0");  // what training begins from
      CHECK(back.tensors->tensors().size() == source.tensors().size());
      for (const auto& [name, tensor] : source.tensors()) {
        INFO(name);
        CHECK(back.tensors->tensors().at(name).shape == tensor.shape);
        std::vector<float> expected = read_all(source, name);
        if (dtype == DType::kBF16 && !name.ends_with(".bias")) {
          for (float& value : expected) value = static_cast<float>(bfloat16(value));
        }
        CHECK(read_all(*back.tensors, name) == expected);
        CHECK(read_all(*start.tensors, name) == expected);
      }
      export_hf(*back.tensors, parse_config(back.config_text, "c").config, options, folder / "again");
      CHECK(names_in(folder / "again") == names_in(folder / "there"));
      for (const std::string& name : names_in(folder / "there")) {
        INFO(name);
        CHECK(bytes_of_file(folder / ("again/" + name)) == bytes_of_file(folder / ("there/" + name)));
      }
      CHECK(names_in(folder.path()) == std::vector<std::string>{"again", "run", "there"});  // nothing half done
    }
  }
}

TEST_CASE("a streamed file is the reference writer's, byte for byte") {
  const TemporaryFolder folder;
  const Config config = tiny_config(kTinyModels.at("mixtral"));
  const HfNames names = names_of(config);
  const MemorySource source(names);
  export_hf(source, config, {.dtype = DType::kF32, .metadata = {{"producer", "p"}}}, folder / "there");
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
  for (const HfTensor& tensor : names.tensors) {
    const std::vector<float> whole = read_all(source, tensor.source);
    const auto begin = whole.begin() + tensor.first_row * tensor.width();
    values.emplace_back(begin, begin + tensor.shape.numel());
    tensors.push_back({tensor.name, tensor.shape, DType::kF32, nullptr});
  }
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = reinterpret_cast<const std::byte*>(values[i].data());
  write_safetensors(folder / "whole.safetensors", tensors, {{"format", "pt"}, {"producer", "p"}});
  CHECK(bytes_of_file(folder / "there/model.safetensors") == bytes_of_file(folder / "whole.safetensors"));
}

// What is asked of a source, and what lies in a folder meanwhile.
class WatchedSource final : public TensorSource {
 public:
  WatchedSource(const TensorSource& inner, fs::path folder) : inner_(inner), folder_(std::move(folder)) {}
  std::string description() const override { return inner_.description(); }
  const std::map<std::string, SourceTensor>& tensors() const override { return inner_.tensors(); }
  void read(const std::string& name, int64_t begin, const Tensor& out) const override {
    ++reads;
    most_bytes = std::max(most_bytes, out.bytes());
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_)) {
      saw_index = saw_index || entry.path().string().find(".index.json") != std::string::npos;
    }
    inner_.read(name, begin, out);
  }

  mutable int64_t reads = 0, most_bytes = 0;
  mutable bool saw_index = false;

 private:
  const TensorSource& inner_;
  fs::path folder_;
};

TEST_CASE("an export reads a few MiB at a time, and writes the index when all else is there") {
  const TemporaryFolder folder;
  Config config = tiny_config(kTinyModels.at("mixtral"));
  config.mutable_model()->set_vocab(300'001);  // 9.6 MB
  const MemorySource memory(names_of(config));
  const WatchedSource source(memory, folder.path());
  const HfExportReport report =
      export_hf(source, config, {.dtype = DType::kF32, .shard_bytes = 1 << 20}, folder / "there");
  CHECK(report.num_files == 3);
  CHECK(source.most_bytes <= 4 << 20);
  CHECK(source.reads > 6);
  CHECK_FALSE(source.saw_index);
  const auto index_written = fs::last_write_time(folder / "there/model.safetensors.index.json");
  for (const std::string& name : names_in(folder / "there")) {
    INFO(name);
    CHECK(fs::last_write_time(folder / ("there/" + name)) <= index_written);
  }
}

TEST_CASE("a writer wants all its bytes and no more") {
  const TemporaryFolder folder;
  SafetensorsWriter writer(folder / "a.safetensors", {{"a", {2}, DType::kF32}}, {});
  const std::vector<std::byte> data(12);
  writer.write(std::span(data).first(4));
  CHECK_THROWS_WITH(writer.commit(), Contains("4 bytes of the data are missing"));
  CHECK_THROWS_WITH(writer.write(data), Contains("8 bytes more than the header says"));
  CHECK_FALSE(fs::exists(folder / "a.safetensors"));
}

TEST_CASE("router biases leave at 0 or above, and choose as before") {
  const TemporaryFolder folder;
  const Config config = tiny_config(kTinyModels.at("glm4_moe"));
  MemorySource source(names_of(config));
  source.values("layers.0.router.bias") = {0.5f, -0.25f, 0, -0.125f};
  source.values("layers.1.router.bias") = {0.5f, 0.25f, 3, 1};
  export_hf(source, config, {}, folder / "there");
  const HfTensorSource there(folder / "there");
  CHECK(read_all(there, "layers.0.router.bias") == std::vector<float>{0.75f, 0, 0.25f, 0.125f});
  CHECK(read_all(there, "layers.1.router.bias") == std::vector<float>{0.5f, 0.25f, 3, 1});
}

TEST_CASE("what an architecture wants and the model lacks is zeros") {
  const TemporaryFolder folder;
  const Config config = tiny_config("attention { heads: 2 } " + experts("score: SIGMOID"));
  const HfExportReport report = export_hf(MemorySource(names_of(config)), config, {}, folder / "there");
  REQUIRE(report.notes.size() == 1);
  CHECK_THAT(report.notes[0], Contains("one of zeros was written"));
  const HfTensorSource there(folder / "there");
  CHECK(read_all(there, "layers.1.router.bias") == std::vector<float>(4));
  CHECK(read_all(there, "layers.1.shared.down") == std::vector<float>(24));
}

TEST_CASE("multi-token prediction may stay behind") {
  const TemporaryFolder folder;
  const Config config = tiny_config(kTinyModels.at("deepseek_v3"));
  const MemorySource source(names_of(config));
  export_hf(source, config, {.mtp = false}, folder / "there");
  const HfTensorSource there(folder / "there");
  CHECK(there.config().model.mtp().depth() == 0);
  CHECK_FALSE(there.tensors().contains("layers.2.eh_proj"));
  // transformers keeps the key and drops the weights.
  OrderedJson json = OrderedJson::parse(bytes_of_file(folder / "there/config.json"));
  json["num_nextn_predict_layers"] = 1;
  make_file(folder / "there/config.json", json.dump());
  const HfTensorSource again(folder / "there");
  CHECK(again.config().model.mtp().depth() == 0);
  REQUIRE(again.notes().size() == 1);
  CHECK_THAT(again.notes()[0], Contains("multi-token prediction"));
}

TEST_CASE("tensors that do not fit the config are named before anything is written") {
  const TemporaryFolder folder;
  const Config config = tiny_config(kTinyModels.at("llama"));
  const auto refused = [&](const MemorySource& source, const std::string& says) {
    CHECK_THROWS_WITH(export_hf(source, config, {}, folder / "there"), Contains(says));
    CHECK(names_in(folder.path()).empty());
  };
  MemorySource missing(names_of(config)), extra(names_of(config)), other(names_of(config));
  missing.described().erase("final_norm");
  refused(missing, "has no tensor \"final_norm\"");
  extra.described()["layers.2.ffn_norm"] = {{8}, DType::kF32};
  refused(extra, "holds the tensor \"layers.2.ffn_norm\"");
  other.described()["final_norm"].shape = {9};
  refused(other, "tensor \"final_norm\": its config describes [8], found [9]");
}

TEST_CASE("a folder that is there is not written into") {
  const TemporaryFolder folder;
  const Config config = tiny_config(kTinyModels.at("llama"));
  const MemorySource source(names_of(config));
  fs::create_directory(folder / "empty");
  export_hf(source, config, {}, fs::path(folder / "empty") / "");  // with a slash at the end
  CHECK_THROWS_WITH(export_hf(source, config, {}, folder / "empty"), Contains("is there already"));
  CHECK_THROWS_WITH(export_hf(source, config, {}, folder / "empty/config.json/x"), Contains("cannot be created"));
  import_hf(HfTensorSource(folder / "empty"), folder / "run", "test", false);
  CHECK_THROWS_WITH(import_hf(HfTensorSource(folder / "empty"), folder / "run", "test", false),
                    Contains("final: is there already"));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"empty", "run"});
}

// Fails at its last tensor.
class FailingSource final : public TensorSource {
 public:
  explicit FailingSource(const MemorySource& inner) : inner_(inner) {}
  std::string description() const override { return "failing"; }
  const std::map<std::string, SourceTensor>& tensors() const override { return inner_.tensors(); }
  void read(const std::string& name, int64_t begin, const Tensor& out) const override {
    if (name == "final_norm") fail("the disk of {} is gone", name);
    inner_.read(name, begin, out);
  }

 private:
  const MemorySource& inner_;
};

TEST_CASE("an export that fails leaves nothing") {
  const TemporaryFolder folder;
  const Config config = tiny_config(kTinyModels.at("llama"));
  const MemorySource source(names_of(config));
  CHECK_THROWS_WITH(export_hf(FailingSource(source), config, {.shard_bytes = 200}, folder / "there"),
                    Contains("is gone"));
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("an import that fails leaves nothing to train on or to generate with") {
  const TemporaryFolder folder;
  const Config config = tiny_config(kTinyModels.at("llama"));
  MemorySource source(names_of(config));
  export_hf(source, config, {.dtype = DType::kF32}, folder / "there");
  const HfTensorSource there(folder / "there");
  int64_t weights = 0;
  for (const auto& [name, tensor] : source.tensors()) weights += tensor.shape.numel();

  // No room for final/ and step-0 together is found before anything is made.
  FailingFileSystem files;
  files.set_free_bytes(weights * 8);
  CHECK_THROWS_AS(import_hf(there, folder / "runs/a", "test", true, files), DiskFull);
  CHECK_THROWS_WITH(import_hf(there, folder / "runs/a", "test", true, files),
                    Contains("runs/a: no space left: ") && Contains(fmt::format("{} are available", weights * 8)));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"there"});
  files.set_free_bytes(int64_t{1} << 40);

  // The disk breaks, or fills, at any call: no checkpoint, no model, and what is there is in nobody's way.
  int64_t call = 1, failures = 0;
  for (bool reached = true; reached; ++call) {
    files.arm(call % 2 == 0 ? Fault::kBrokenFromNow : Fault::kFullFromNow, call);
    const std::string run = folder / fmt::format("runs/{}", call);
    const std::string error = error_of([&] { import_hf(there, run, "test", true, files); });
    reached = files.has_failed();
    files.heal();
    INFO(call << ": " << error);
    if (error == "no error") {
      CHECK(read_all(*open_tensor_source(run + "/checkpoints/step-0").tensors, "final_norm").size() == 8);
      CHECK(fs::exists(run + "/final"));
      continue;
    }
    ++failures;
    CHECK_FALSE(fs::exists(run + "/final"));
    if (CheckpointFolder(run).has_remains()) continue;  // only the last sync failed: it is whole
    import_hf(there, run, "test", true, files);
    CHECK(fs::exists(run + "/final"));
    CHECK(CheckpointFolder(run).steps() == std::vector<int64_t>{0});
  }
  CHECK(failures > 10);

  // A run that is under way is let be, whether or not it has saved yet.
  fs::create_directories(folder / "busy");
  make_file(folder / "busy/metrics.jsonl", "");
  CHECK_THROWS_WITH(import_hf(there, folder / "busy", "test", true), Contains("busy: holds a run already"));
  fs::create_directories(folder / "saved/checkpoints/step-7");
  CHECK_THROWS_WITH(import_hf(there, folder / "saved", "test", true), Contains("holds checkpoints already"));
  CHECK(names_in(folder / "saved") == std::vector<std::string>{"checkpoints"});

  source.values("layers.1.ffn.down").at(9) = std::nanf("");
  export_hf(source, config, {.dtype = DType::kF32}, folder / "bad");
  for (const bool to_train : {true, false}) {
    CHECK_THROWS_WITH(
        import_hf(HfTensorSource(folder / "bad"), folder / "b", "test", to_train),
        Contains("bad/model.safetensors: tensor \"model.layers.1.mlp.down_proj.weight\": element 9 is not "
                 "finite"));
    CHECK_FALSE(fs::exists(folder / "b/final"));
    CHECK_FALSE(CheckpointFolder(folder / "b").has_remains());
  }
}

TEST_CASE("a config that says that rows are rotated by halves is believed, also of an architecture of pairs") {
  for (const auto& [type, text] : kTinyModels) {
    if (std::string(type) != "deepseek_v3") continue;
    const TemporaryFolder folder;
    const Config config = tiny_config(text);
    const MemorySource source(names_of(config));
    export_hf(source, config, {.dtype = DType::kF32}, folder / "there");
    std::string json = bytes_of_file(folder / "there/config.json");
    json.insert(json.find('{') + 1, "\"rope_interleave\": false,");
    make_file(folder / "there/config.json", json);
    const HfTensorSource there(folder / "there");
    CHECK(there.config().model.attention().rope().layout() == RopeConfig::HALF_SPLIT);
    // As they stand in the file; exported again, they are pairs, as that architecture has them everywhere.
    for (const auto& [name, tensor] : source.tensors()) CHECK(read_all(there, name) == read_all(source, name));
    Config halves = config;
    *halves.mutable_model() = there.config().model;
    export_hf(there, halves, {.dtype = DType::kF32}, folder / "again");
    const HfTensorSource again(folder / "again");
    CHECK(again.config().model.attention().rope().layout() == RopeConfig::INTERLEAVED);
    CHECK(read_all(again, "layers.0.attention.kv_a") != read_all(there, "layers.0.attention.kv_a"));
    CHECK(read_all(again, "layers.0.attention.kv_b") == read_all(there, "layers.0.attention.kv_b"));
  }
}

TEST_CASE("a folder that cannot become the model is refused before anything is written") {
  const TemporaryFolder folder;
  const Config config = tiny_config("attention { heads: 1 }");
  const MemorySource source(names_of(config));
  const auto write = [&](const fs::path& to) { return export_hf(source, config, {}, to); };
  write(folder / "new/parents/a");
  CHECK(fs::exists(folder / "new/parents/a/config.json"));
  fs::create_directory(folder / "empty");
  fs::create_directory_symlink(folder / "empty", folder / "link");
  write(folder / "link");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(fs::exists(folder / "empty/config.json"));
  fs::create_directory_symlink(folder / "absent", folder / "dangling");
  CHECK_THROWS_WITH(write(folder / "dangling"), Contains("dangling: is a link to") && Contains("which is not there"));
  CHECK_THROWS_WITH(write("/dev/pts/"), Contains("/dev/pts"));  // a mount point, or not empty: never written to
}

TEST_CASE("FP8 weights are read as codes times their block's scale") {
  const TemporaryFolder folder;
  Config config = tiny_config("attention { heads: 1 }");
  config.mutable_model()->set_hidden(130);
  config.mutable_model()->set_ffn(200);
  const HfNames names = names_of(config);
  const MemorySource source(names);
  export_hf(source, config, {.dtype = DType::kF32}, folder / "there");
  const SafetensorsFile file(folder / "there/model.safetensors");
  std::vector<std::vector<float>> kept;
  std::vector<NamedTensor> tensors;
  kept.reserve(names.tensors.size());
  for (const HfTensor& tensor : names.tensors) {
    kept.push_back(file.read_f32(tensor.name, tensor.shape));
    tensors.push_back({tensor.name, tensor.shape, DType::kF32, reinterpret_cast<const std::byte*>(kept.back().data())});
  }
  const std::string name = "model.layers.1.mlp.up_proj.weight";  // [200, 130]: 2 x 2 blocks, none of them full but one
  std::vector<float8_e4m3> codes;
  for (int i = 0; i < 200 * 130; ++i) codes.emplace_back(static_cast<float>(i % 97 - 48));
  const std::vector<float> scales = {0.5f, 3, 0.1f, std::numeric_limits<float>::min()};
  for (NamedTensor& tensor : tensors) {
    if (tensor.name != name) continue;
    tensor.dtype = DType::kE4M3;
    tensor.data = reinterpret_cast<const std::byte*>(codes.data());
  }
  const std::string path = folder / "there/model.safetensors";
  write_safetensors(path, tensors, {});
  CHECK_THROWS_WITH(HfTensorSource(folder / "there"), Contains("there is no \"" + name + "_scale_inv\" beside it"));
  const auto data = reinterpret_cast<const std::byte*>(scales.data());
  tensors.push_back({name + "_scale_inv", {1, 4}, DType::kF32, data});
  write_safetensors(path, tensors, {});
  CHECK_THROWS_WITH(HfTensorSource(folder / "there"), Contains("expected F32 [2, 2]"));
  tensors.back().shape = {2, 2};
  write_safetensors(path, tensors, {});

  const HfTensorSource there(folder / "there");
  REQUIRE(there.notes().empty());
  CHECK(there.tensors().at("layers.1.ffn.gate_up").dtype == DType::kF32);
  const std::vector<float> read = read_all(there, "layers.1.ffn.gate_up");
  import_hf(there, folder / "run", "test", true);
  CHECK(read_all(*open_tensor_source(folder / "run/checkpoints/step-0").tensors, "layers.1.ffn.gate_up") == read);
  const auto expected = [&](int64_t row, int64_t column) {
    return load(codes[static_cast<size_t>(row * 130 + column)]) *
           scales[static_cast<size_t>(row / 128 * 2 + column / 128)];
  };
  bool equal = true;
  for (int64_t row = 0; row < 200; ++row) {
    for (int64_t column = 0; column < 130; ++column) {
      equal = equal && read[static_cast<size_t>((200 + row) * 130 + column)] == expected(row, column);
    }
  }
  CHECK(equal);
  // A range that begins and ends inside rows, over the border of two tensors, rounded.
  Allocator allocator(DeviceKind::kCpu);
  const Tensor part = Tensor::empty({300}, DType::kBF16, allocator, MemoryKind::kWorkspace);
  there.read("layers.1.ffn.gate_up", 199 * 130 + 7, part);
  CHECK(part.data<bfloat16>()[0].bits == bfloat16(read[199 * 130 + 7]).bits);
  CHECK(part.data<bfloat16>()[299].bits == bfloat16(read[199 * 130 + 306]).bits);
}

}  // namespace
}  // namespace shoal
