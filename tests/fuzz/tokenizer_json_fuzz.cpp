// tests/fuzz/tokenizer_json_fuzz.cpp: a tokenizer.json, then a text for it (take_part): there and back.
#include <algorithm>

#include "core/base/check.h"
#include "tests/data/small_bpe.h"
#include "tests/fuzz/json_fuzz.h"

namespace shoal::fuzz {

namespace {

// What a pattern may cost is limited for each piece that it finds, and a text has many.
constexpr size_t kMostText = 500;

void run(std::string_view input) {
  const BpeTokenizer tokenizer{std::string(take_part(input)), "tokenizer.json"};
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) tokenizer.bytes_of(id);
  SHOAL_CHECK(tokenizer.bytes_of(tokenizer.eod_id()).empty());
  const std::string_view text = input.substr(0, kMostText);
  const std::vector<int32_t> ids = encode(tokenizer, text);
  std::string decoded;
  for (const int32_t id : ids) {
    SHOAL_CHECK(id >= 0 && id < tokenizer.vocab_size() && id != tokenizer.eod_id(), "id {}", id);
    decoded += tokenizer.bytes_of(id);
  }
  if (tokenizer.is_lossless()) SHOAL_CHECK_EQ(decoded, text);
  SHOAL_CHECK(encode(tokenizer, text) == ids);  // pieces that are remembered now
}

const std::string kText =
    "hello  world 12345 \xFF caf\xC3\xA9 cafe\xCC\x81 \xE4\xB8\xAD\n's!!\r\n<stop> \xED\xA0\x80 abc";

// Behind the file, a text.
std::string with_text(const json& file) { return file.dump() + std::string(kBetween) + kText; }
std::string with(const std::string& pointer, const json& value) {
  json file = small_bpe();
  file[json::json_pointer(pointer)] = value;
  return with_text(file);
}
std::string with_stages(const std::vector<json>& stages) { return with("/pre_tokenizer", sequence(stages)); }

// Of few tokens, which leave most bytes out.
json tiny() {
  return {{"added_tokens", json::array({added_token(3, "</s>", true)})},
          {"pre_tokenizer", byte_level(true)},
          {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", json::array({"a b"})}}}};
}

std::vector<Seed> good_ones() {
  json all = small_bpe(sequence({split(kLlama3Pattern)}));
  all["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array({{{"type", "NFC"}}})}};
  all["model"]["ignore_merges"] = true;
  json stop = added_token(281, "<stop>");
  stop["lstrip"] = stop["rstrip"] = stop["single_word"] = stop["normalized"] = true;
  all["added_tokens"].push_back(stop);
  std::vector<Seed> seeds{{with_text(small_bpe()), kSound},
                          {with_text(tiny()), kSound},
                          {tiny().dump(), kSound},
                          {with_text(all), kSound},
                          {with("/model/ignore_merges", true), kSound},
                          {with("/added_tokens/1", added_token(281, "caf\xC3\xA9")), kSound},
                          {with("/added_tokens/1", added_token(260, "hello")), kSound},
                          {with("/pre_tokenizer", byte_level(true, true)), kSound},
                          {with_stages({{{"type", "Digits"}, {"individual_digits", true}}}), kSound}};
  for (const char* behavior : {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"}) {
    for (const char* pattern : {"l+", "", "(?=o)", "\\s|$", "(?<=l)\\w*"}) {
      const bool refused = std::string_view(pattern).find("\\w") != std::string_view::npos;
      seeds.emplace_back(with_stages({split(pattern, behavior), split("o", behavior, true)}),
                         refused ? "cannot use \"\\w\"" : kSound);
    }
    seeds.emplace_back(with_stages({split("l", behavior, true, "String"), split("", behavior, false, "String")}),
                       kSound);
  }
  return seeds;
}

std::vector<Seed> seeds() {
  std::vector<Seed> all = good_ones();
  for (const Seed& seed : json_seeds(tiny().dump(), "version")) all.push_back(seed.bytes);
  const auto add = [&](std::string bytes, const char* says) { all.emplace_back(std::move(bytes), says); };
  add(with("/model/vocab/hello", 300), "has id 300: expected 0 to 280");
  add(with("/model/vocab/hello", 261), "has id 261, which");
  add(with("/model/vocab/hello", 1 << 22), "expected an id below 4194304");
  add(with("/model/vocab/hello", -1), "is -1");
  add(with("/model/vocab/hello", json::array()), "holds an array");
  add(with("/model/vocab", nullptr), "model.vocab: expected an object");
  add(with("/model/merges/3", json{"he", "xx"}), "its right token, \"xx\"");
  add(with("/model/merges/3", json{"h", "e", "l"}), "more than two tokens");
  add(with("/model/merges/3", json::array({json::array()})), "holds an array where none belongs");
  add(with("/model/merges/3", "h e l"), "expected two tokens with one space");
  add(with("/added_tokens/0/id", 1e30), "expected an integer from 0");
  add(with("/added_tokens/0/special", false), "expected a special token that ends a document");
  add(with("/added_tokens/1", added_token(260, "hello", true)), "is special, and also what model.merges[3] makes");
  add(with("/added_tokens/1", added_token(65, "a", true)), "also the token of a byte");
  add(with("/normalizer", {{"type", "NFKC"}}), "the normalizer \"NFKC\"");
  add(with("/pre_tokenizer", split("a")), "expected ByteLevel as the last stage");
  add(with("/decoder", {{"type", "Metaspace"}}), "the decoder \"Metaspace\"");
  add(with_stages(std::vector<json>(40, split("a"))), "more than 32 stages");
  add(with_stages({split("(a")}), "expected a regular expression");
  add(with_stages({split("(" + repeated("\\s", 2000))}), "expected a regular expression");
  add(with_stages({split("(" + repeated("x", 2000) + "\\w")}), "cannot use \"\\w\"");
  add(with_stages({split(repeated("(", 20000))}), "expected a regular expression");
  add(with_stages({split("a{65536}")}), "expected a regular expression");
  add(with_stages({split("((((a{1000}){1000}){1000}){1000})")}), "expected a regular expression");
  add(with_stages({split("(?<=a*)b")}), "expected a regular expression");
  add(with_stages({split("[a-\\x{10FFFF}]*\\x{110000}")}), "expected a code point");
  const json backtracking = sequence({split("(?:a+)+b")});
  add(small_bpe(backtracking).dump() + std::string(kBetween) + repeated("a", 40) + "cb", "backtracks too much");
  return all;
}

const Registered registered({"tokenizer_json", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
