// tests/data/bpe_golden_test.cpp: the ids that Hugging Face's tokenizers 0.23.3 computed for a small tokenizer.json.
#include <catch2/catch.hpp>

#include "tests/data/small_bpe.h"

using namespace shoal;

namespace {

json pre_tokenizer_named(const std::string& name) {
  if (name == "gpt2") return byte_level(true);
  if (name == "gpt2 with a prefix space") return byte_level(true, true);
  if (name == "llama3") return sequence({split(kLlama3Pattern)});
  if (name == "qwen") {
    std::string pattern = kLlama3Pattern;
    pattern.erase(pattern.find("{1,3}"), 5);
    return sequence({split(pattern)});
  }
  if (name == "deepseek") {
    return sequence(
        {split(R"(\p{N}{1,3})"), split("[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"),
         split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
               "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")});
  }
  const bool each = name == "digits";
  REQUIRE((each || name == "runs of digits"));
  return {{"type", "Sequence"},
          {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", each}}, byte_level(each)}}};
}

BpeTokenizer make(const json& file) { return BpeTokenizer(file.dump(), "t.json"); }

struct Golden {
  std::string pre_tokenizer;
  std::string text;
  std::vector<int32_t> ids;
};

}  // namespace

TEST_CASE("byte-level BPE: pre-tokenizers give the reference's ids") {
  // "qwen" with its NFC.
  const std::vector<Golden> goldens = {
      {"gpt2",
       "hello world's  1234567 hello!!\n\n x",
       {260, 265, 271, 221, 221, 269, 20, 21, 22, 23, 280, 272, 273, 221, 88}},
      {"gpt2",
       "abcab bc \303\251 \344\270\255\346\226\207 123",
       {279, 277, 221, 278, 221, 276, 221, 275, 163, 245, 230, 221, 269}},
      {"gpt2", "  leading    spaces\tand\r\ntabs \n", {221, 221, 76,  69,  65, 68,  73, 78,  71,  266,
                                                       221, 221, 83,  80,  65, 67,  69, 83,  198, 65,
                                                       78,  68,  202, 199, 84, 277, 83, 221, 199}},
      {"gpt2", "<|endoftext|>hello<|endoftext|>", {28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30, 260,
                                                   28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30}},
      {"gpt2",
       "e\314\201 \303\251 \341\204\200\341\205\241",
       {69, 137, 224, 221, 276, 221, 158, 227, 223, 158, 228, 95}},
      {"gpt2", "HELLO'S don't '\305\277", {40, 37, 44, 44, 47, 7, 51, 221, 68, 79, 78, 7, 84, 221, 7, 130, 124}},
      {"gpt2", "", {}},
      {"gpt2 with a prefix space",
       "hello world's  1234567 hello!!\n\n x",
       {280, 265, 271, 221, 221, 269, 20, 21, 22, 23, 280, 272, 273, 221, 88}},
      {"gpt2 with a prefix space",
       "abcab bc \303\251 \344\270\255\346\226\207 123",
       {221, 279, 277, 221, 278, 221, 276, 221, 275, 163, 245, 230, 221, 269}},
      {"gpt2 with a prefix space",
       "  leading    spaces\tand\r\ntabs \n",
       {221, 221, 76, 69,  65, 68, 73, 78,  71,  266, 221, 221, 83,  80, 65,
        67,  69,  83, 198, 65, 78, 68, 202, 199, 84,  277, 83,  221, 199}},
      {"gpt2 with a prefix space", "<|endoftext|>hello<|endoftext|>", {221, 28, 92, 69, 78,  68, 79, 70, 84, 69,
                                                                       88,  84, 92, 30, 260, 28, 92, 69, 78, 68,
                                                                       79,  70, 84, 69, 88,  84, 92, 30}},
      {"gpt2 with a prefix space",
       "e\314\201 \303\251 \341\204\200\341\205\241",
       {221, 69, 137, 224, 221, 276, 221, 158, 227, 223, 158, 228, 95}},
      {"gpt2 with a prefix space",
       "HELLO'S don't '\305\277",
       {221, 40, 37, 44, 44, 47, 7, 51, 221, 68, 79, 78, 7, 84, 221, 7, 130, 124}},
      {"gpt2 with a prefix space", "", {}},
      {"llama3",
       "hello world's  1234567 hello!!\n\n x",
       {260, 265, 271, 221, 221, 269, 20, 21, 22, 23, 280, 272, 273, 221, 88}},
      {"llama3",
       "abcab bc \303\251 \344\270\255\346\226\207 123",
       {279, 277, 221, 278, 221, 276, 221, 275, 163, 245, 230, 221, 269}},
      {"llama3", "  leading    spaces\tand\r\ntabs \n", {221, 221, 76,  69,  65, 68,  73, 78,  71,  266,
                                                         221, 221, 83,  80,  65, 67,  69, 83,  198, 65,
                                                         78,  68,  202, 199, 84, 277, 83, 221, 199}},
      {"llama3", "<|endoftext|>hello<|endoftext|>", {28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30, 260,
                                                     28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30}},
      {"llama3",
       "e\314\201 \303\251 \341\204\200\341\205\241",
       {69, 137, 224, 221, 276, 221, 158, 227, 223, 158, 228, 95}},
      {"llama3", "HELLO'S don't '\305\277", {40, 37, 44, 44, 47, 7, 51, 221, 68, 79, 78, 7, 84, 221, 7, 130, 124}},
      {"llama3", "", {}},
      {"qwen",
       "hello world's  1234567 hello!!\n\n x",
       {260, 265, 271, 221, 221, 17, 18, 19, 20, 21, 22, 23, 280, 272, 273, 221, 88}},
      {"qwen",
       "abcab bc \303\251 \344\270\255\346\226\207 123",
       {279, 277, 221, 278, 221, 276, 221, 275, 163, 245, 230, 221, 17, 18, 19}},
      {"qwen", "  leading    spaces\tand\r\ntabs \n", {221, 221, 76,  69,  65, 68,  73, 78,  71,  266,
                                                       221, 221, 83,  80,  65, 67,  69, 83,  198, 65,
                                                       78,  68,  202, 199, 84, 277, 83, 221, 199}},
      {"qwen", "<|endoftext|>hello<|endoftext|>", {28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30, 260,
                                                   28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30}},
      {"qwen", "e\314\201 \303\251 \341\204\200\341\205\241", {276, 221, 276, 221, 167, 109, 223}},
      {"qwen", "HELLO'S don't '\305\277", {40, 37, 44, 44, 47, 7, 51, 221, 68, 79, 78, 7, 84, 221, 7, 130, 124}},
      {"qwen", "", {}},
      {"deepseek",
       "hello world's  1234567 hello!!\n\n x",
       {260, 265, 271, 266, 269, 20, 21, 22, 23, 280, 272, 273, 221, 88}},
      {"deepseek",
       "abcab bc \303\251 \344\270\255\346\226\207 123",
       {279, 277, 221, 278, 221, 276, 221, 275, 163, 245, 230, 221, 269}},
      {"deepseek", "  leading    spaces\tand\r\ntabs \n", {221, 221, 76,  69,  65, 68,  73, 78,  71,  266,
                                                           221, 221, 83,  80,  65, 67,  69, 83,  198, 65,
                                                           78,  68,  202, 199, 84, 277, 83, 221, 199}},
      {"deepseek", "<|endoftext|>hello<|endoftext|>", {28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30, 260,
                                                       28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30}},
      {"deepseek",
       "e\314\201 \303\251 \341\204\200\341\205\241",
       {69, 137, 224, 221, 276, 221, 158, 227, 223, 158, 228, 95}},
      {"deepseek", "HELLO'S don't '\305\277", {40, 37, 44, 44, 47, 7, 51, 221, 68, 79, 78, 7, 84, 221, 7, 130, 124}},
      {"deepseek", "", {}},
      {"digits",
       "hello world's  1234567 hello!!\n\n x",
       {260, 265, 271, 266, 17, 18, 19, 20, 21, 22, 23, 280, 272, 273, 221, 88}},
      {"digits",
       "abcab bc \303\251 \344\270\255\346\226\207 123",
       {279, 277, 221, 278, 221, 276, 221, 275, 163, 245, 230, 221, 17, 18, 19}},
      {"digits", "  leading    spaces\tand\r\ntabs \n", {221, 221, 76,  69,  65, 68,  73, 78,  71,  266,
                                                         221, 221, 83,  80,  65, 67,  69, 83,  198, 65,
                                                         78,  68,  202, 199, 84, 277, 83, 221, 199}},
      {"digits", "<|endoftext|>hello<|endoftext|>", {28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30, 260,
                                                     28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30}},
      {"digits",
       "e\314\201 \303\251 \341\204\200\341\205\241",
       {69, 137, 224, 221, 276, 221, 158, 227, 223, 158, 228, 95}},
      {"digits", "HELLO'S don't '\305\277", {40, 37, 44, 44, 47, 7, 51, 221, 68, 79, 78, 7, 84, 221, 7, 130, 124}},
      {"digits", "", {}},
      {"runs of digits",
       "hello world's  1234567 hello!!\n\n x",
       {260, 265, 271, 266, 269, 20, 21, 22, 23, 280, 272, 273, 221, 88}},
      {"runs of digits",
       "abcab bc \303\251 \344\270\255\346\226\207 123",
       {279, 277, 221, 278, 221, 276, 221, 275, 163, 245, 230, 221, 269}},
      {"runs of digits", "  leading    spaces\tand\r\ntabs \n", {266, 76,  69,  65, 68,  73, 78,  71, 267,
                                                                 83,  80,  65,  67, 69,  83, 198, 65, 78,
                                                                 68,  202, 199, 84, 277, 83, 221, 199}},
      {"runs of digits", "<|endoftext|>hello<|endoftext|>", {28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30, 260,
                                                             28, 92, 69, 78, 68, 79, 70, 84, 69, 88, 84, 92, 30}},
      {"runs of digits",
       "e\314\201 \303\251 \341\204\200\341\205\241",
       {69, 137, 224, 221, 276, 221, 158, 227, 223, 158, 228, 95}},
      {"runs of digits",
       "HELLO'S don't '\305\277",
       {40, 37, 44, 44, 47, 7, 51, 221, 68, 79, 78, 7, 84, 221, 7, 130, 124}},
      {"runs of digits", "", {}},
  };
  for (const auto& [name, text, ids] : goldens) {
    json file = small_bpe(pre_tokenizer_named(name));
    if (name == "qwen") file["normalizer"] = {{"type", "NFC"}};
    if (name == "deepseek") file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
    CAPTURE(name, text);
    const BpeTokenizer tokenizer = make(file);
    CHECK(encode(tokenizer, text) == ids);
    CHECK(tokenizer.is_lossless() == (name != "qwen" && name != "gpt2 with a prefix space"));
    if (tokenizer.is_lossless()) CHECK(tokenizer.decode(ids) == text);
    // The older way to write merges.
    for (json& merge : file["model"]["merges"]) {
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    }
    CHECK(encode(make(file), text) == ids);
  }
}

TEST_CASE("byte-level BPE: every behavior of a split gives the reference's ids") {
  struct Case {
    std::string kind, pattern, behavior;
    bool invert;
    std::vector<int32_t> ids;
  };
  const std::vector<Case> cases = {
      {"String", "b", "Isolated", false, {65, 66, 67, 65, 66, 66, 67, 66, 260}},
      {"String", "b", "Isolated", true, {65, 66, 67, 65, 66, 66, 67, 66, 260}},
      {"String", "b", "Removed", false, {65, 67, 65, 67, 260}},
      {"String", "b", "Removed", true, {66, 66, 66, 66}},
      {"String", "b", "MergedWithPrevious", false, {277, 67, 277, 66, 67, 66, 260}},
      {"String", "b", "MergedWithPrevious", true, {65, 278, 65, 66, 278, 66, 260}},
      {"String", "b", "MergedWithNext", false, {65, 278, 65, 66, 278, 66, 260}},
      {"String", "b", "MergedWithNext", true, {277, 67, 277, 66, 67, 66, 260}},
      {"String", "b", "Contiguous", false, {65, 66, 67, 65, 66, 66, 67, 66, 260}},
      {"String", "b", "Contiguous", true, {65, 66, 67, 65, 66, 66, 67, 66, 260}},
      {"Regex", "(?=b)|h", "Isolated", false, {65, 278, 65, 66, 278, 66, 72, 69, 258, 79}},
      {"Regex", "(?=b)|h", "Isolated", true, {65, 278, 65, 66, 278, 66, 72, 69, 258, 79}},
      {"Regex", "(?=b)|h", "Removed", false, {65, 278, 65, 66, 278, 66, 69, 258, 79}},
      {"Regex", "(?=b)|h", "Removed", true, {72}},
      {"Regex", "(?=b)|h", "MergedWithPrevious", false, {65, 278, 65, 66, 278, 66, 72, 69, 258, 79}},
      {"Regex", "(?=b)|h", "MergedWithPrevious", true, {65, 278, 65, 66, 278, 66, 260}},
      {"Regex", "(?=b)|h", "MergedWithNext", false, {65, 278, 65, 66, 278, 66, 260}},
      {"Regex", "(?=b)|h", "MergedWithNext", true, {65, 278, 65, 66, 278, 66, 72, 69, 258, 79}},
      {"Regex", "(?=b)|h", "Contiguous", false, {65, 278, 65, 66, 278, 66, 72, 69, 258, 79}},
      {"Regex", "(?=b)|h", "Contiguous", true, {65, 278, 65, 66, 278, 66, 72, 69, 258, 79}},
  };
  for (const auto& [kind, pattern, behavior, invert, ids] : cases) {
    CAPTURE(kind, behavior, invert);
    const BpeTokenizer tokenizer = make(small_bpe(sequence({split(pattern, behavior, invert, kind)})));
    CHECK(encode(tokenizer, "abcabbcbhello") == ids);
    CHECK(tokenizer.is_lossless() == (behavior != "Removed"));
  }
}

TEST_CASE("byte-level BPE: added tokens are found where the reference finds them") {
  struct Case {
    bool nfc;
    std::string text;
    std::vector<int32_t> ids;
  };
  const std::vector<Case> cases = {
      {false, "hello<tool>world <tool><tool><to", {260, 281, 87, 262, 264, 221, 281, 281, 28, 84, 79}},
      {false, "hel held xhel hel", {282, 221, 257, 264, 221, 88, 257, 76, 221, 282}},
      {false, "hello \t [M] \343\200\200 hello[M]", {260, 283, 260, 283}},
      {false, "e\314\201x \303\251x", {69, 137, 224, 88, 221, 284}},
      {false, "<|a|>q a|>q", {28, 92, 65, 92, 30, 81, 221, 286}},
      {false, "<toolhel-hel\303\251 hel", {287, 76, 257, 76, 13, 257, 76, 276, 221, 282}},
      {true, "hello<tool>world <tool><tool><to", {260, 281, 87, 262, 264, 221, 281, 281, 28, 84, 79}},
      {true, "hel held xhel hel", {282, 221, 257, 264, 221, 88, 257, 76, 221, 282}},
      {true, "hello \t [M] \343\200\200 hello[M]", {260, 283, 260, 283}},
      {true, "e\314\201x \303\251x", {284, 221, 284}},
      {true, "<|a|>q a|>q", {28, 92, 65, 92, 30, 81, 221, 286}},
      {true, "<toolhel-hel\303\251 hel", {287, 76, 257, 76, 13, 257, 76, 276, 221, 282}},
  };
  json file = small_bpe();
  const auto add = [&](const std::string& content, const json& differing) {
    json token = added_token(280 + static_cast<int>(file["added_tokens"].size()), content);
    token.update(differing);
    file["added_tokens"].push_back(token);
  };
  add("<tool>", json::object());
  add("hel", {{"single_word", true}});
  add("[M]", {{"lstrip", true}, {"rstrip", true}});
  add("\u00e9x", {{"normalized", true}});
  add("<|a|>", {{"special", true}});
  add("a|>q", json::object());
  add("<too", json::object());
  for (const auto& [nfc, text, ids] : cases) {
    CAPTURE(nfc, text);
    file["normalizer"] = nfc ? json{{"type", "NFC"}} : json();
    CHECK(encode(make(file), text) == ids);
  }
  const BpeTokenizer tokenizer = make(file);
  CHECK(tokenizer.vocab_size() == 288);
  CHECK(tokenizer.bytes_of(281) == "<tool>");
  CHECK(tokenizer.bytes_of(285).empty());  // special
  CHECK_FALSE(tokenizer.is_lossless());    // [M] takes white space along
}
