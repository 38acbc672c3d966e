// tests/config/configs_test.cpp: every config in configs/ can be used.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <set>

#include "core/base/check.h"
#include "core/config/print.h"
#include "core/config/validate.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

std::set<std::string> configs_in(const std::string& folder) {
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".textproto") files.insert(entry.path().string());
  }
  return files;
}

std::string first_line(const std::string& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

}  // namespace

TEST_CASE("every published model loads and adds up", "[config]") {
  const std::set<std::string> files = configs_in("configs/models");
  // Every family: MLA with sigmoid and softmax routers, GQA and MHA experts with and without q/k norms, dense.
  for (const char* name : {"deepseek_v3", "deepseek_v2", "deepseek_v2_lite", "qwen3_30b_a3b", "olmoe_1b_7b",
                           "mixtral_8x7b", "mixtral_8x22b", "llama3_8b", "llama3_405b", "deepseek_67b"}) {
    CHECK(files.count(fmt::format("configs/models/{}.textproto", name)) == 1);
  }
  for (const std::string& file : files) {
    INFO(file);
    const LoadedConfig loaded = load_config({file});
    CHECK_NOTHROW(validate(loaded, ConfigUse::kCount));
    CHECK(loaded.config.model().name() == fs::path(file).stem().string());
    CHECK_THAT(first_line(file), Catch::StartsWith("# " + file + ": "));
    CHECK_NOTHROW(parse_config(effective_config_text(loaded, Origins::kComment), "printed"));
  }
}

TEST_CASE("every run config can run", "[config]") {
  const std::set<std::string> files = configs_in("configs");
  for (const char* name : {"quickstart", "small", "dense_124m", "moe_1b"}) {
    CHECK(files.count(fmt::format("configs/{}.textproto", name)) == 1);
  }
  for (const std::string& file : files) {
    INFO(file);
    const LoadedConfig loaded = load_config({file});
    CHECK_NOTHROW(validate(loaded, ConfigUse::kStep));
    CHECK_THAT(first_line(file), Catch::StartsWith("# " + file + ": "));
  }
}

TEST_CASE("quickstart and small run on 1 to 8 ranks", "[config]") {
  for (const char* name : {"quickstart", "small"}) {
    INFO(name);
    const LoadedConfig loaded = load_config({fmt::format("configs/{}.textproto", name)});
    CHECK_NOTHROW(validate(loaded, ConfigUse::kTrain));
    const Config& config = loaded.config;
    const int64_t batch = config.train().global_batch();
    CHECK(batch % 24 == 0);
    CHECK(config.model().attention().heads() % 4 == 0);
    CHECK(config.model().moe().num_experts() % 8 == 0);
    CHECK(config.parallel().data() == 0);
    // Two ranks: an even number of equal microbatches each.
    const int64_t share = batch / 2;
    CHECK(share % config.train().microbatch() == 0);
    CHECK(share / config.train().microbatch() % 2 == 0);
  }
}

}  // namespace shoal
