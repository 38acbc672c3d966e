// data/tokenizer_json_stages.cpp: stages by their "type".
#include "data/tokenizer_json_stages.h"

#include <algorithm>
#include <map>

#include "core/base/check.h"
#include "core/base/json_text.h"

namespace shoal {
namespace {

constexpr size_t kMaxStages = 32;
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

[[noreturn]] void refuse_type(const JsonValue& stage, std::string_view role, std::string_view known) {
  fail("{}: the {} {} is not supported: expected {}", stage.at("type").full_place(), role, stage.at("type").shown(),
       known);
}

SplitStage::Behavior behavior_of(const JsonValue& value) {
  using Behavior = SplitStage::Behavior;
  static const std::map<std::string, Behavior> kBehaviors = {{"Isolated", Behavior::kIsolated},
                                                             {"Removed", Behavior::kRemoved},
                                                             {"MergedWithPrevious", Behavior::kMergedWithPrevious},
                                                             {"MergedWithNext", Behavior::kMergedWithNext},
                                                             {"Contiguous", Behavior::kContiguous}};
  const auto found = kBehaviors.find(value.string());
  value.expect(found != kBehaviors.end(), "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
  return found->second;
}

SplitStage parse_split(const JsonValue& stage) {
  expect_only(stage, {"type", "pattern", "behavior", "invert"});
  const JsonValue pattern = stage.at("pattern");
  expect_only(pattern, {"Regex", "String"});
  const bool is_regex = pattern.has("Regex");
  pattern.expect(is_regex != pattern.has("String"), "either \"Regex\" or \"String\"");
  const JsonValue text = pattern.at(is_regex ? "Regex" : "String");
  return {.kind = is_regex ? SplitStage::Kind::kRegex : SplitStage::Kind::kString,
          .pattern = text.string(),
          .behavior = behavior_of(stage.at("behavior")),
          .invert = stage.at("invert").boolean_or(false),
          .place = text.full_place()};
}

void parse_byte_level(const JsonValue& stage, std::vector<SplitStage>& stages) {
  expect_only(stage, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  if (stage.at("add_prefix_space").boolean_or(true)) {
    stages.push_back({.kind = SplitStage::Kind::kPrefixSpace, .pattern = {}, .place = stage.full_place()});
  }
  if (stage.at("use_regex").boolean_or(true)) {
    stages.push_back({.pattern = std::string(kGpt2Pattern), .place = stage.full_place()});
  }
}

// Whether the stage leaves bytes, after which nothing may come.
bool parse_stage(const JsonValue& stage, std::vector<SplitStage>& stages) {
  const std::string type = stage.at("type").string();
  bool is_bytes = false;
  if (type == "Sequence") {
    expect_only(stage, {"type", "pretokenizers"});
    const JsonValue inner = stage.at("pretokenizers");
    for (size_t i = 0; i < inner.size(); ++i) {
      if (is_bytes) fail("{}: a stage behind ByteLevel, which is the last one Shoal knows", inner.at(i).full_place());
      is_bytes = parse_stage(inner.at(i), stages);
    }
  } else if (type == "Split") {
    stages.push_back(parse_split(stage));
  } else if (type == "Digits") {
    expect_only(stage, {"type", "individual_digits"});
    const bool each = stage.at("individual_digits").boolean_or(false);
    stages.push_back({.pattern = each ? R"(\p{N})" : R"(\p{N}+)", .place = stage.full_place()});
  } else if (type == "ByteLevel") {
    parse_byte_level(stage, stages);
    is_bytes = true;
  } else {
    refuse_type(stage, "pre_tokenizer", "Sequence, Split, Digits or ByteLevel");
  }
  if (stages.size() > kMaxStages) fail("{}: more than {} stages", stage.full_place(), kMaxStages);
  return is_bytes;
}

}  // namespace

void expect_only(const JsonValue& object, std::initializer_list<std::string_view> known) {
  for (const std::string& key : object.keys()) {
    if (std::ranges::find(known, key) == known.end()) {
      fail("{}: the key \"{}\" is one that Shoal does not know, and it may change the tokens", object.full_place(),
           shown_text(key));
    }
  }
}

void parse_normalizer(const JsonValue& normalizer, TokenizerJson& json) {
  if (normalizer.is_null()) return;
  const std::string type = normalizer.at("type").string();
  if (type == "NFC") {
    json.nfc = true;
  } else if (type == "Sequence") {
    const JsonValue inner = normalizer.at("normalizers");
    for (size_t i = 0; i < inner.size(); ++i) parse_normalizer(inner.at(i), json);
  } else {
    refuse_type(normalizer, "normalizer",
                "none, NFC or a Sequence of them (others change text so that it cannot be had back)");
  }
}

void parse_pre_tokenizer(const JsonValue& pre_tokenizer, std::vector<SplitStage>& stages) {
  if (pre_tokenizer.is_null() || !parse_stage(pre_tokenizer, stages)) {
    fail(
        "{}: expected ByteLevel as the last stage, found none: this is not byte-level BPE; models of SentencePiece are "
        "read from their .model file",
        pre_tokenizer.full_place());
  }
}

void check_decoder(const JsonValue& decoder) {
  if (decoder.is_null()) return;
  const std::string type = decoder.at("type").string();
  if (type == "Sequence") {
    const JsonValue inner = decoder.at("decoders");
    for (size_t i = 0; i < inner.size(); ++i) check_decoder(inner.at(i));
  } else if (type != "ByteLevel" && type != "Fuse") {
    refuse_type(decoder, "decoder", "none or ByteLevel");
  }
}

std::vector<SplitStage> parse_pre_tokenizer(std::string_view json_text, const std::string& path) {
  const JsonDocument json(json_text, path);
  std::vector<SplitStage> stages;
  parse_pre_tokenizer(json.root("pre_tokenizer"), stages);
  return stages;
}

}  // namespace shoal
