// tests/data/tokenizer_json_test.cpp: a tokenizer.json nobody should trust: each rule broken once, then random bytes.
#include "data/tokenizer_json.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"
#include "core/base/random.h"
#include "data/tokenizer_json_reader.h"
#include "tests/data/small_bpe.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

std::string error_of(const std::string& contents) {
  try {
    const BpeTokenizer tokenizer(contents, "t.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

// What is said about the small tokenizer with a value of it replaced.
std::string error_with(const std::string& pointer, const json& value) {
  json file = small_bpe();
  file[json::json_pointer(pointer)] = value;
  return error_of(file.dump());
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("tokenizer.json: what is no JSON object") {
  CHECK_THAT(error_of(""), Contains("t.json is no tokenizer.json"));
  CHECK_THAT(error_of("[]"), Contains("expected a JSON object, found array"));
  CHECK_THAT(error_of("3"), Contains("expected a JSON object, found number"));
  CHECK_THAT(error_of("{\"a\": 1} x"), Contains("byte 10") && Contains("copy it again"));
  CHECK_THAT(error_of("{}"), Contains("it has no \"model\""));
  CHECK_THAT(error_of("{\"a\": \"\xFF\"}"), Contains("stops being JSON"));
  CHECK_THAT(error_of("{\"a\": \"\\ud800\"}"), Contains("stops being JSON"));
  CHECK_THAT(error_of(small_bpe().dump() + std::string(1, '\0')), Contains("is NUL"));
  CHECK_THAT(error_of("{\"a\":" + std::string(1'000'000, '[')), Contains("more than 64 deep"));
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100; ++i) deep += "{\"a\":";
  CHECK_THAT(error_of(deep), Contains("more than 64 deep"));
  std::string many = "{\"a\":[";
  for (int i = 0; i < 1'000'001; ++i) many += "0,";
  CHECK_THAT(error_of(many + "0]}"), Contains("more than 1000000 values"));
}

TEST_CASE("tokenizer.json: a file that is too large, or not there") {
  const TempFolder folder;
  write_bytes(folder / "t.json", "");
  std::filesystem::resize_file(folder / "t.json", (64 << 20) + 1);
  CHECK_THROWS_WITH(open_tokenizer(folder / "t.json"), Contains("67108865 bytes, more than the 67108864"));
  CHECK_THROWS_WITH(open_tokenizer(folder / "none.json"), Contains("none.json: No such file"));
}

TEST_CASE("tokenizer.json: keys that stand there twice") {
  const std::string text = small_bpe().dump();
  CHECK_THAT(error_of(replaced(text, "\"version\"", "\"version\":\"1.0\",\"version\"")),
             Contains("\"version\" stands there twice"));
  CHECK_THAT(error_of(replaced(text, "\"vocab\":{", "\"vocab\":{},\"vocab\":{")),
             Contains("\"vocab\" stands there twice"));
  CHECK_THAT(error_of(replaced(text, "\"merges\":[", "\"merges\":[],\"merges\":[")),
             Contains("\"merges\" stands there twice"));
  CHECK_THAT(error_of(replaced(text, "\"hello\":260", "\"hello\":260,\"hello\":260")),
             Contains("model.vocab: the key \"hello\" stands there twice"));
}

TEST_CASE("tokenizer.json: ids with gaps, twice, too large, of the wrong type") {
  CHECK_THAT(error_with("/model/vocab/hello", 300), Contains("\"hello\" has id 300: expected 0 to 280"));
  CHECK_THAT(error_with("/model/vocab/hello", 261), Contains("has id 261, which"));
  CHECK_THAT(error_with("/model/vocab/hello", 1 << 22), Contains("expected an id below 4194304"));
  CHECK_THAT(error_with("/model/vocab/hello", -1), Contains("model.vocab[\"hello\"] is -1"));
  CHECK_THAT(error_with("/model/vocab/hello", 1.5), Contains("model.vocab[\"hello\"] is 1.5"));
  CHECK_THAT(error_with("/model/vocab/hello", "260"), Contains("expected an id"));
  CHECK_THAT(error_with("/model/vocab/hello", json::array()), Contains("model.vocab holds an array"));
  CHECK_THAT(error_with("/model/vocab/hello", json::object()), Contains("model.vocab holds an object"));
  CHECK_THAT(error_with("/model/vocab", nullptr), Contains("model.vocab: expected an object"));
}

TEST_CASE("tokenizer.json: merges without tokens or of another shape") {
  CHECK_THAT(error_with("/model/merges/3", json{"he", "xx"}), Contains("model.merges[3]: its right token, \"xx\""));
  CHECK_THAT(error_with("/model/merges/3", json{"h", "h"}), Contains("model.merges[3]: its result, \"hh\""));
  CHECK_THAT(error_with("/model/merges/3", json{"h"}), Contains("model.merges[3] has 1 tokens"));
  CHECK_THAT(error_with("/model/merges/3", json{"h", "e", "l"}), Contains("model.merges[3] has more than two"));
  CHECK_THAT(error_with("/model/merges/3", json{"h", 5}), Contains("model.merges[3] is 5"));
  CHECK_THAT(error_with("/model/merges/3", "h"),
             Contains("model.merges[3] is \"h\": expected two tokens with one space"));
  CHECK_THAT(error_with("/model/merges/3", "h e l"), Contains("expected two tokens with one space"));
  CHECK_THAT(error_with("/model/merges/3", nullptr), Contains("model.merges[3] is null"));
  CHECK_THAT(error_with("/model/merges/3", json::object()), Contains("model.merges holds an object"));
  CHECK_THAT(error_with("/model/merges/3", json::array({json::array()})), Contains("model.merges holds an array"));
  CHECK_THAT(error_with("/model/merges", 7), Contains("model.merges: expected an array"));
}

TEST_CASE("tokenizer.json: added tokens that contradict the vocabulary, or that text could write") {
  CHECK_THAT(error_with("/added_tokens/0/id", 5), Contains("\"<|endoftext|>\" has id 5, and id 0 in model.vocab"));
  CHECK_THAT(error_with("/added_tokens/0/id", -1), Contains("added_tokens[0].id: expected an integer from 0"));
  CHECK_THAT(error_with("/added_tokens/0/id", 1e30), Contains("added_tokens[0].id: expected an integer from 0"));
  CHECK_THAT(error_with("/added_tokens/0/id", nullptr), Contains("added_tokens[0].id: expected an integer"));
  CHECK_THAT(error_with("/added_tokens/0/content", ""), Contains("added_tokens[0].content: expected 1 to 4096 bytes"));
  CHECK_THAT(error_with("/added_tokens/0/content", std::string(5000, 'x')), Contains("found 5000"));
  json many = json::array();
  for (int i = 0; i < 1025; ++i) many.push_back(added_token(i, std::to_string(1000 + i) + std::string(4092, 'x')));
  CHECK_THAT(error_with("/added_tokens", many), Contains("added_tokens: more than 4194304 bytes in all tokens"));
  CHECK_THAT(error_with("/added_tokens/0/special", "yes"), Contains("added_tokens[0].special: expected true or false"));
  CHECK_THAT(error_with("/added_tokens/0/color", 1), Contains("added_tokens[0]: the key \"color\""));
  CHECK_THAT(error_with("/added_tokens", 5), Contains("added_tokens: expected an array, found 5"));
  CHECK_THAT(error_with("/added_tokens/1", added_token(283, "<x>")),
             Contains("added_tokens: \"<x>\" has id 283: expected 0 to 281"));
  CHECK_THAT(error_with("/added_tokens/1", added_token(281, "<|endoftext|>")),
             Contains("added_tokens: \"<|endoftext|>\" stands there twice"));
  CHECK_THAT(error_with("/added_tokens/1", added_token(260, "hello", true)),
             Contains("\"hello\" (id 260) is special, and also what model.merges[3] makes"));
  CHECK_THAT(error_with("/added_tokens/1", added_token(65, "a", true)), Contains("also the token of a byte"));
}

TEST_CASE("tokenizer.json: stages that are not supported are named") {
  for (const char* type : {"NFD", "NFKC", "Lowercase", "Replace", "Prepend", "BertNormalizer", "Precompiled"}) {
    CHECK_THAT(error_with("/normalizer", {{"type", type}}),
               Contains(std::string("normalizer.type: the normalizer \"") + type));
  }
  CHECK_THAT(error_with("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Strip"}}}}}),
             Contains("normalizer.normalizers[0].type"));
  for (const char* type : {"Metaspace", "Whitespace", "BertPreTokenizer", "UnicodeScripts", "Punctuation"}) {
    CHECK_THAT(error_with("/pre_tokenizer", {{"type", type}}),
               Contains(std::string("pre_tokenizer.type: the pre_tokenizer \"") + type));
  }
  CHECK_THAT(error_with("/pre_tokenizer", nullptr), Contains("expected ByteLevel as the last stage"));
  CHECK_THAT(error_with("/pre_tokenizer", split("a")), Contains("expected ByteLevel as the last stage"));
  CHECK_THAT(error_with("/pre_tokenizer", sequence({byte_level(true)})),
             Contains("pretokenizers[1]: a stage behind ByteLevel"));
  CHECK_THAT(error_with("/pre_tokenizer", sequence({split("a", "Sideways")})),
             Contains("pretokenizers[0].behavior: expected Isolated, Removed"));
  CHECK_THAT(error_with("/pre_tokenizer", sequence({split("a", "Isolated", false, "Glob")})),
             Contains("pattern: the key \"Glob\""));
  CHECK_THAT(error_with("/pre_tokenizer", sequence(std::vector<json>(40, split("a")))),
             Contains("more than 32 stages"));
  CHECK_THAT(error_with("/pre_tokenizer", sequence({split("(a")})),
             Contains("pretokenizers[0].pattern.Regex: expected a regular expression") &&
                 Contains("missing closing parenthesis"));
  CHECK_THAT(error_with("/decoder", {{"type", "Metaspace"}}), Contains("decoder.type: the decoder \"Metaspace\""));
  CHECK_THAT(error_with("/version", "2.0"), Contains("version: expected \"1.0\", found \"2.0\""));
  for (const char* type : {"WordPiece", "Unigram", "WordLevel"})
    CHECK_THAT(error_with("/model/type", type), Contains("model.type: expected \"BPE\""));
  CHECK_THAT(error_with("/model/dropout", 0.1), Contains("model.dropout: expected null"));
  CHECK_THAT(error_with("/model/end_of_word_suffix", "</w>"), Contains("model.end_of_word_suffix: expected null"));
  CHECK_THAT(error_with("/model/continuing_subword_prefix", "##"), Contains("model.continuing_subword_prefix"));
  CHECK_THAT(error_with("/model/novelty", 1), Contains("model: the key \"novelty\""));
  CHECK(error_with("/model/dropout", 0.0) == "accepted");
  CHECK(error_with("/model/end_of_word_suffix", "") == "accepted");
  CHECK(error_with("/model/unk_token", "<|endoftext|>") == "accepted");  // no text is unknown
  CHECK(error_with("/decoder", nullptr) == "accepted");
}

TEST_CASE("tokenizer.json: cut at any length, or with any byte changed, is refused or works") {
  const std::string text = small_bpe(sequence({split(R"(\p{N}{1,3}|\s+(?!\S)|\s+)")})).dump();
  int accepted = 0;
  const auto try_file = [&](const std::string& contents) {
    try {
      const BpeTokenizer tokenizer(contents, "t.json");
      ++accepted;
      const std::string sample = "hello  world 12345 \xFF caf\xC3\xA9\n";
      const std::string decoded = tokenizer.decode(encode(tokenizer, sample));
      if (tokenizer.is_lossless()) CHECK(decoded == sample);
    } catch (const Error&) {
    }
  };
  for (size_t length = 0; length < text.size(); length += 7) try_file(text.substr(0, length));
  CHECK(accepted == 0);
  const CounterRandom random(7, 8);
  uint64_t draw = 0;
  for (int i = 0; i < 1500; ++i) {
    std::string changed = text;
    for (uint64_t n = 1 + random.below(3, ++draw); n > 0; --n) {
      const std::string_view signs = "\"{}[],:\\ 019-eu\xFF\x00tfn";
      const size_t at = random.below(changed.size(), ++draw);
      const uint64_t pick = random.below(256, ++draw);
      changed[at] = i % 2 == 0 ? static_cast<char>(pick) : signs[pick % signs.size()];
    }
    try_file(changed);
  }
  CHECK(accepted > 0);
}
