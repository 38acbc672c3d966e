// tests/checkpoint/final_model_test.cpp: RUN/final/ appears whole or not at all, and says what is missing.
#include "core/checkpoint/final_model.h"

#include <catch2/catch.hpp>

#include <algorithm>

#include "tests/temporary_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

FinalModelParts parts_of(const std::vector<float>& bias, const std::vector<bfloat16>& weight) {
  FinalModelParts parts;
  parts.tensors = {
      {"layers.1.router.bias", {2}, DType::kF32, reinterpret_cast<const std::byte*>(bias.data())},
      {"embedding", {2, 2}, DType::kBF16, reinterpret_cast<const std::byte*>(weight.data())},
  };
  parts.config_text = "model { hidden: 2 }\n";
  parts.metadata = {{"step", "60"}};
  return parts;
}

const std::vector<float> kBias = {0.25f, -0.25f};
const std::vector<bfloat16> kWeight = {bfloat16(1), bfloat16(2), bfloat16(3), bfloat16(4)};

TEST_CASE("a final model round trips, with its tokenizer") {
  const TemporaryFolder run;
  FinalModelParts parts = parts_of(kBias, kWeight);
  parts.tokenizer_name = "somewhere/spm.model";
  parts.tokenizer_bytes = std::string("\0\1binary\xff", 9);
  write_final_model(run.path(), parts);
  CHECK(names_in(run.path()) == std::vector<std::string>{"final"});
  CHECK(names_in(run / "final") ==
        std::vector<std::string>{"config.textproto", "model.safetensors", "tokenizer.model"});

  for (const fs::path& path : {run.path(), run / "final"}) {  // the run folder, or final/ itself
    const FinalModel model(path);
    CHECK(model.directory() == run / "final");
    CHECK(bytes_of_file(model.config_path()) == "model { hidden: 2 }\n");
    CHECK(bytes_of_file(model.tokenizer_path().value()) == parts.tokenizer_bytes);
    CHECK(model.tensors().read_f32("embedding", {2, 2}) == std::vector<float>{1, 2, 3, 4});
    CHECK(model.tensors().read_f32("layers.1.router.bias", {2}) == kBias);
    CHECK(model.tensors().find("embedding").dtype == "BF16");
    CHECK(model.tensors().metadata().at("format") == "pt");
    CHECK(model.tensors().metadata().at("step") == "60");
  }
}

TEST_CASE("a model without a tokenizer file has none") {
  const TemporaryFolder run;
  write_final_model(run.path(), parts_of(kBias, kWeight));
  CHECK_FALSE(FinalModel(run.path()).tokenizer_path().has_value());
  make_file(run / "final/tokenizer.model", "a");
  make_file(run / "final/tokenizer.json", "b");
  CHECK_THROWS_WITH(FinalModel(run.path()).tokenizer_path(), Contains("holds several tokenizers"));
}

TEST_CASE("a final model replaces an earlier one") {
  const TemporaryFolder run;
  write_final_model(run.path(), parts_of({9, 9}, kWeight));
  write_final_model(run.path(), parts_of(kBias, kWeight));
  CHECK(names_in(run.path()) == std::vector<std::string>{"final"});
  CHECK(FinalModel(run.path()).tensors().read_f32("layers.1.router.bias", {2}) == kBias);
}

TEST_CASE("what a killed process left is in nobody's way, whatever its number was, and is cleared away") {
  const TemporaryFolder run;
  const std::string own = std::to_string(::getpid());
  for (const std::string& name : {".tmp-final-" + own, std::string(".tmp-final-1"), ".old-final-" + own}) {
    fs::create_directories(run / name);
    make_file(run / (name + "/half"), "half");
  }
  for (int time = 0; time < 2; ++time) {
    write_final_model(run.path(), parts_of(kBias, kWeight));
    CHECK(names_in(run.path()) == std::vector<std::string>{"final"});
  }
}

TEST_CASE("a failed write leaves what was there and nothing else") {
  const TemporaryFolder run;
  FinalModelParts parts = parts_of(kBias, kWeight);
  write_final_model(run.path(), parts);
  parts.tokenizer_name = "x." + std::string(300, 'y');  // too long a name: fails after the tensors are written
  parts.config_text = "other";
  CHECK_THROWS_WITH(write_final_model(run.path(), parts), Contains("File name too long"));
  CHECK(names_in(run.path()) == std::vector<std::string>{"final"});
  CHECK(bytes_of_file(FinalModel(run.path()).config_path()) == "model { hidden: 2 }\n");

  const TemporaryFolder fresh;
  CHECK_THROWS_AS(write_final_model(fresh.path(), parts), Error);
  CHECK(fs::is_empty(fresh.path()));
  CHECK_THROWS_WITH(write_final_model(fresh / "no-run", parts), Contains("no-run") && Contains("cannot be created"));
}

TEST_CASE("what is no final model is refused with what is missing") {
  const TemporaryFolder run;
  CHECK_THROWS_WITH(FinalModel(run / "absent"), Contains("does not exist; expected a run folder with final/"));
  CHECK_THROWS_WITH(FinalModel(run.path()), Contains("holds no final model") && Contains("train.save_final"));
  write_final_model(run.path(), parts_of(kBias, kWeight));
  fs::remove(run / "final/config.textproto");
  CHECK_THROWS_WITH(FinalModel(run.path()), Contains("has model.safetensors but no config.textproto"));
  make_file(run / "final/config.textproto", "");
  fs::resize_file(run / "final/model.safetensors", 40);
  CHECK_THROWS_WITH(FinalModel(run.path()), Contains("model.safetensors") && Contains("truncated"));
}

}  // namespace
}  // namespace shoal
