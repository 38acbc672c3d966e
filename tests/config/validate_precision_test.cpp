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

TEST_CASE("gradients summed after every microbatch travel in f32", "[config]") {
  CHECK(refusal(kDense, {"parallel.gradient_reduction=EACH_MICROBATCH"}) == "(no error)");
  CHECK(refusal(kDense, {"parallel.gradient_reduction=EACH_MICROBATCH", "precision.gradient_wire=FP8"}) ==
        "b: precision.gradient_wire is FP8, but parallel.gradient_reduction is EACH_MICROBATCH, whose promise of the "
        "same "
        "bits on any number of ranks needs F32 on the wire; set it to EACH_STEP");
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

TEST_CASE("what attention keeps is kept in bf16 or E5M6", "[config]") {
  CHECK(refusal(kDense, {"precision.kept_attention_out=E5M6"}) == "(no error)");
  CHECK(refusal(kDense, {"precision.kept_attention_out=FP8"}) ==
        "b: precision.kept_attention_out is FP8, which is too coarse for what attention's backward reads; set it to "
        "E5M6 or BF16");
}

TEST_CASE("a format for a part of the network wants that part", "[config]") {
  CHECK(refusal(kDense, {kExperts, "model.moe.num_shared_experts=1",
                         "precision.of={attention: FP8 dense_ffn: FP8 experts: FP8 shared_expert: BF16}"}) ==
        "(no error)");
  CHECK(refusal(kDense, {"precision.of.dense_ffn=FP8"}) == "(no error)");
  CHECK(refusal(kDense, {kExperts, "precision.of.shared_expert=FP8"}) ==
        "b: precision.of.shared_expert is set, but the model has no shared expert; remove it");
  CHECK(refusal(kDense, {kExperts, "model.moe.first_dense_layers=0", "precision.of.dense_ffn=FP8"}) ==
        "b: precision.of.dense_ffn is set, but the model has no dense layers (model.moe.first_dense_layers is 0); "
        "remove it");
  CHECK(refusal(kDense, {"precision.of.experts=FP8"}) ==
        "b: precision.of.experts is set, but the model has no experts; remove it");
}

TEST_CASE("ranks hold whole blocks of FP8 weights", "[config]") {
  constexpr const char* kWide = R"(model {
    vocab: 100 hidden: 512 layers: 2 ffn: 640 attention { heads: 8 kv_heads: 4 }
    moe { num_experts: 8 topk: 2 ffn: 384 num_shared_experts: 1 first_dense_layers: 1 }
  }
  precision { linear: FP8 }
  data { train { prefix: "t" } }
  )";
  CHECK(refusal(kWide, {"parallel.expert=8"}) == "(no error)");
  CHECK(refusal(kWide, {"parallel.expert_tensor=3"}) == "(no error)");
  // Without a split any width will do: tiles at the edge are short.
  CHECK(refusal(kDense, {"precision.linear=FP8"}) == "(no error)");

  CHECK(
      refusal(kWide, {"parallel.tensor=4", "precision.of={dense_ffn: BF16 shared_expert: BF16}"}) ==
      "b: parallel.tensor (4) splits kv_heads * head_dim (256) into parts of 64, but a part of an FP8 linear must be a "
      "multiple of 128;\n  set parallel.tensor to 2, or take this part of the network out of FP8 with precision.of");
  CHECK(
      refusal(kWide, {"parallel.tensor=2"}) ==
      "b: parallel.tensor (2) splits model.ffn (640) into parts of 320, but a part of an FP8 linear must be a multiple "
      "of 128;\n  set parallel.tensor to 1, or take this part of the network out of FP8 with precision.of");
  CHECK(refusal(kWide, {"parallel.tensor=2", "precision.of.dense_ffn=BF16"}) ==
        "b: parallel.tensor (2) splits the shared experts' width (384) into parts of 192, but a part of an FP8 linear "
        "must be a multiple of 128;\n  set parallel.tensor to 1, or take this part of the network out of FP8 with "
        "precision.of");
  CHECK(refusal(kWide, {"parallel.tensor=2", "precision.of={dense_ffn: BF16 shared_expert: BF16}"}) == "(no error)");
  // What is suggested passes: 2 would do for the key/value heads, but not for the dense width.
  CHECK(refusal(kWide, {"parallel.tensor=4"}).find("set parallel.tensor to 1, or") != std::string::npos);
  CHECK(refusal(kWide, {"parallel.tensor=4", "model.ffn=1024", "model.attention.kv_heads=8",
                        "precision.of.shared_expert=BF16"}) == "(no error)");
  CHECK(refusal(kWide, {"parallel.tensor=8", "model.ffn=1024", "model.attention.kv_heads=8",
                        "precision.of.shared_expert=BF16"})
            .find("set parallel.tensor to 4, or") != std::string::npos);
  // A dense width that no block has does not matter.
  CHECK(refusal(kWide, {"parallel.tensor=2", "model.moe.first_dense_layers=0", "precision.of.shared_expert=BF16"}) ==
        "(no error)");
  CHECK(refusal(kWide, {"parallel.expert_tensor=2"}).find("splits model.moe.ffn (384) into parts of 192") !=
        std::string::npos);

  constexpr const char* kMla = R"(model {
    vocab: 100 hidden: 512 layers: 2 ffn: 512
    attention { kind: MLA heads: 4 kv_lora_rank: 64 qk_nope_head_dim: 32 qk_rope_head_dim: 32 v_head_dim: 32 }
  }
  precision { linear: FP8 }
  data { train { prefix: "t" } }
  )";
  CHECK(refusal(kMla, {}) == "(no error)");
  CHECK(refusal(kMla, {"parallel.tensor=2"}).find("splits heads * v_head_dim (128) into parts of 64") !=
        std::string::npos);
}

}  // namespace shoal
