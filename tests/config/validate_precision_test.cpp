// tests/config/validate_precision_test.cpp: formats of numbers that a config may ask for, and those it may not.
#include <catch2/catch.hpp>

#include "core/config/override.h"
#include "core/config/validate.h"
#include "tests/config/expect_error.h"

namespace shoal {
namespace {

constexpr const char* kDense = R"(model {
  vocab: 100 hidden: 64 layers: 3 ffn: 96
  attention { heads: 4 kv_heads: 2 }
}
data { train { prefix: "t" } }
)";
constexpr const char* kExperts = "model.moe={num_experts: 8 topk: 2 ffn: 32 first_dense_layers: 1}";

std::string refusal(const char* base, const std::vector<std::string>& changes) {
  LoadedConfig loaded = parse_config(base, "a.textproto");
  for (const std::string& change : changes) {
    const ParsedText parsed = parse_override(change);
    loaded.config.MergeFrom(parsed.config);
    for (const auto& [path, place] : parsed.places) loaded.origins[path] = "b";
  }
  return error_of([&] { validate(loaded, ConfigUse::kTrain); });
}

}  // namespace

TEST_CASE("gradients may travel in every format, on every model", "[config]") {
  for (const char* format : {"F32", "BF16", "FP8", "INT8"}) {
    CHECK(refusal(kDense, {fmt::format("precision.gradient_wire={}", format)}) == "(no error)");
  }
}

TEST_CASE("a format for what experts return wants experts", "[config]") {
  for (const char* format : {"FP8", "E5M6", "LOGFMT8", "LOGFMT10"}) {
    const std::string change = fmt::format("precision.combine={}", format);
    CHECK(refusal(kDense, {kExperts, change}) == "(no error)");
    CHECK(refusal(kDense, {change}) ==
          fmt::format("b: precision.combine is {}, but the model has no experts, so no rows travel back from any; "
                      "remove it",
                      format));
  }
  CHECK(refusal(kDense, {"precision.combine=BF16"}) == "(no error)");
}

}  // namespace shoal
