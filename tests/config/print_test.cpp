// tests/config/print_test.cpp: what is printed can be loaded again and says where everything came from.
#include "core/config/print.h"

#include <catch2/catch.hpp>
#include <google/protobuf/util/message_differencer.h>

namespace shoal {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr const char* kText = R"(model {
  vocab: 100
  hidden: 64
  attention { heads: 4 }
}
data { train { prefix: "a\"b" } train { prefix: "ü" weight: 0.1 } }
optim { lr: 0.003 eps: 1e-9 }
)";

}  // namespace

TEST_CASE("the printed config gives the same values when it is loaded", "[config]") {
  const LoadedConfig loaded = parse_config(kText, "a.textproto");
  for (const Origins origins : {Origins::kOmit, Origins::kComment}) {
    const std::string text = effective_config_text(loaded, origins);
    const LoadedConfig again = parse_config(text, "b.textproto");
    // Equal to the last bit of every double, with defaults as good as values.
    MessageDifferencer differencer;
    differencer.set_message_field_comparison(MessageDifferencer::EQUIVALENT);
    std::string difference;
    differencer.ReportDifferencesToString(&difference);
    INFO(difference);
    CHECK(differencer.Compare(loaded.config, again.config));
    CHECK(effective_config_text(again, Origins::kOmit) == effective_config_text(loaded, Origins::kOmit));
  }
}

TEST_CASE("the printed config shows defaults and origins", "[config]") {
  const std::string text = effective_config_text(parse_config(kText, "a.textproto"), Origins::kComment);
  const auto line = [&](const std::string& start) {
    const size_t begin = text.find(start);
    REQUIRE(begin != std::string::npos);
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  CHECK(line("  hidden:") == "  hidden: 64                                # a.textproto:3:3");
  CHECK(line("  lr:") == "  lr: 0.003                                 # a.textproto:7:9");
  CHECK(line("  norm_eps:") == "  norm_eps: 1e-06                           # default");
  CHECK(line("    kind: COSINE") == "    kind: COSINE                            # default");
  CHECK(line("    weight: 0.1") == "    weight: 0.1                             # a.textproto:6:54");
  CHECK(line("  dir:") == "  dir: \"runs/run\"                           # default");
}

TEST_CASE("what is absent on purpose stays absent", "[config]") {
  const auto text = [](const std::string& config) {
    return effective_config_text(parse_config(config, "a.textproto"), Origins::kOmit);
  };
  const std::string dense = text(kText);
  CHECK_THAT(dense, !Catch::Contains("moe {") && !Catch::Contains("yarn {") && !Catch::Contains("mtp {"));
  CHECK_THAT(dense, !Catch::Contains("  ffn:") && !Catch::Contains("tokenizer:"));  // no value and no default
  CHECK_THAT(dense, Catch::Contains("kv_heads: 0") && !Catch::Contains("kv_lora_rank"));

  const std::string mla = text("model { attention { kind: MLA rope { yarn { } } } moe { topk: 2 } }");
  CHECK_THAT(mla, !Catch::Contains("kv_heads") && Catch::Contains("kv_lora_rank: 0"));
  CHECK_THAT(mla,
             Catch::Contains("yarn {\n        factor: 40\n") && Catch::Contains("router {\n      score: SIGMOID\n"));
}

TEST_CASE("lists of numbers are printed, and what is a choice by its absence is not", "[config]") {
  const auto text = [](const std::string& given) {
    return effective_config_text(parse_config(given, "a.textproto"), Origins::kOmit);
  };
  CHECK_THAT(text(""), !Catch::Contains("timeline") && !Catch::Contains("emulate"));
  const std::string ranks = text("train { timeline { ranks: 3 ranks: 0 } }");
  CHECK_THAT(ranks, Catch::Contains("ranks: [3, 0]\n") && Catch::Contains("first_step: 3\n"));
  const TimelineConfig again = parse_config(ranks, "b.textproto").config.train().timeline();
  CHECK((again.ranks_size() == 2 && again.ranks(0) == 3 && again.ranks(1) == 0));
  CHECK_THAT(text("train { timeline { } }"), !Catch::Contains("ranks:"));
  CHECK_THAT(text("parallel { emulate { inter_node { latency_us: 5 } } }"),
             Catch::Contains("inter_node {") && !Catch::Contains("intra_node"));
}

TEST_CASE("an override with a line break stays one comment", "[config]") {
  LoadedConfig loaded = parse_config("generate { prompt: 'x' }", "a.textproto");
  loaded.config.mutable_generate()->set_prompt("a\nb");
  loaded.origins["generate.prompt"] = "override 1 (generate.prompt=a\nb)";
  const std::string text = effective_config_text(loaded, Origins::kComment);
  CHECK(parse_config(text, "b.textproto").config.generate().prompt() == "a\nb");
}

}  // namespace shoal
