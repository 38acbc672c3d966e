// data/bpe_training.cpp: counts, learns, writes.
#include "data/bpe_training.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <numeric>
#include <unordered_set>

#include "core/base/check.h"
#include "data/bpe_learner.h"
#include "data/byte_alphabet.h"
#include "data/tokenizer_json.h"
#include "data/utf8.h"
#include "data/word_counts.h"

namespace shoal {
namespace {

constexpr std::string_view kEndOfDocument = "<|endoftext|>";
constexpr std::string_view kBytesLast =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";

std::string in_quotes(std::string_view text) { return nlohmann::json(text).dump(); }

std::string split_json(std::string_view pattern) {
  return fmt::format(R"({{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated","invert":false}})",
                     in_quotes(pattern));
}

std::string sequence_json(const std::vector<std::string>& stages) {
  return fmt::format(R"({{"type":"Sequence","pretokenizers":[{},{}]}})", fmt::join(stages, ","), kBytesLast);
}

// Llama 3's pattern; Qwen's is the same with digits one by one.
std::string words_pattern(std::string_view digits) {
  return fmt::format(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*)"
                     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
                     digits);
}

struct NamedPreTokenizer {
  std::string name;
  std::string json;
};

const std::vector<NamedPreTokenizer>& known_pre_tokenizers() {
  static const std::vector<NamedPreTokenizer> kKnown = {
      {"gpt2", R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})"},
      {"llama3", sequence_json({split_json(words_pattern(R"(\p{N}{1,3})"))})},
      {"qwen", sequence_json({split_json(words_pattern(R"(\p{N})"))})},
      {"deepseek",
       sequence_json(
           {split_json(R"(\p{N}{1,3})"),
            split_json("[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"),  // Han, Hiragana, Katakana
            split_json(R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
                       R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")})},
  };
  return kKnown;
}

const NamedPreTokenizer& known_pre_tokenizer(const std::string& name) {
  const auto found = std::ranges::find(known_pre_tokenizers(), name, &NamedPreTokenizer::name);
  if (found == known_pre_tokenizers().end()) {
    fail("unknown pre-tokenizer: expected one of {}, found \"{}\"", fmt::join(bpe_pre_tokenizer_names(), ", "), name);
  }
  return *found;
}

std::vector<std::string> all_special_tokens(const BpeTraining& options) {
  std::vector<std::string> tokens{std::string(kEndOfDocument)};
  for (const std::string& token : options.special_tokens) {
    const auto as_bytes = from_byte_characters(token.substr(0, valid_utf8_prefix(token)));
    if (valid_utf8_prefix(token) != token.size() || (as_bytes && as_bytes->size() < 2)) {
      fail("a special token needs 2 or more characters of UTF-8, found \"{}\"", token);
    }
    if (std::ranges::find(tokens, token) != tokens.end()) fail("the special token \"{}\" is there twice", token);
    tokens.push_back(token);
  }
  return tokens;
}

// Bytes in the order of their characters.
std::array<int, 256> bytes_by_character() {
  std::array<int, 256> bytes{};
  std::iota(bytes.begin(), bytes.end(), 0);
  std::ranges::sort(bytes, {}, [](int byte) { return byte_alphabet()[static_cast<size_t>(byte)]; });
  return bytes;
}

std::string file_contents(const std::vector<std::string>& special, const std::string& pre_tokenizer,
                          const std::vector<std::string>& tokens, const std::vector<BpeMerge>& merges) {
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [";
  for (size_t i = 0; i < special.size(); ++i) {
    out += fmt::format(R"({}{{"id": {}, "content": {}, "single_word": false, "lstrip": false, "rstrip": false, )"
                       R"("normalized": false, "special": true}})",
                       i == 0 ? "\n    " : ",\n    ", i, in_quotes(special[i]));
  }
  const std::string bytes = R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})";
  out += fmt::format(
      "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {},\n  \"post_processor\": {},\n  \"decoder\": {},\n"
      "  \"model\": {{\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
      "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
      "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {{",
      pre_tokenizer, starting_with(special[0], 0), bytes);
  for (size_t id = 0; id < tokens.size(); ++id) {
    out += fmt::format("{}{}: {}", id == 0 ? "\n      " : ",\n      ", in_quotes(tokens[id]), id);
  }
  out += "\n    },\n    \"merges\": [";
  for (size_t i = 0; i < merges.size(); ++i) {
    out += fmt::format("{}[{}, {}]", i == 0 ? "\n      " : ",\n      ",
                       in_quotes(tokens[static_cast<size_t>(merges[i].left)]),
                       in_quotes(tokens[static_cast<size_t>(merges[i].right)]));
  }
  return out + "\n    ]\n  }\n}\n";
}

}  // namespace

std::string starting_with(std::string_view token, int32_t id) {
  const std::string name = in_quotes(token);
  const std::string special = fmt::format(R"({{"SpecialToken":{{"id":{},"type_id":0}}}})", name);
  const auto sequence = [](char which) { return fmt::format(R"({{"Sequence":{{"id":"{}","type_id":0}}}})", which); };
  return fmt::format(R"({{"type":"TemplateProcessing","single":[{0},{1}],"pair":[{0},{1},{0},{2}],)"
                     R"("special_tokens":{{{3}:{{"id":{3},"ids":[{4}],"tokens":[{3}]}}}}}})",
                     special, sequence('A'), sequence('B'), name, id);
}

std::vector<std::string> bpe_pre_tokenizer_names() {
  std::vector<std::string> names;
  for (const auto& known : known_pre_tokenizers()) names.push_back(known.name);
  return names;
}

std::string train_bpe(const NextDocument& next, const BpeTraining& options) {
  const NamedPreTokenizer& pre_tokenizer = known_pre_tokenizer(options.pre_tokenizer);
  const std::vector<std::string> special = all_special_tokens(options);
  const auto smallest = static_cast<int64_t>(special.size()) + 256;
  if (options.vocab_size < smallest) {
    fail("a vocabulary of {} tokens is too small: {} special tokens and 256 bytes need {}", options.vocab_size,
         special.size(), smallest);
  }
  std::vector<std::string> tokens = special;
  BpeLearning learning{.vocab_size = options.vocab_size,
                       .min_frequency = options.min_frequency,
                       .byte_ids = std::vector<int32_t>(256),
                       .first_new_id = static_cast<int32_t>(smallest),
                       .never_results = {}};
  for (const std::string& token : special) {
    if (auto bytes = from_byte_characters(token)) learning.never_results.insert(std::move(*bytes));
  }
  for (const int byte : bytes_by_character()) {
    learning.byte_ids[static_cast<size_t>(byte)] = static_cast<int32_t>(tokens.size());
    const char c = static_cast<char>(byte);
    tokens.push_back(to_byte_characters({&c, 1}));
  }
  const PreTokenizer splitter(parse_pre_tokenizer(pre_tokenizer.json, "the pre-tokenizer " + pre_tokenizer.name));
  const WordCountsResult counts =
      count_words(next, splitter, {.num_threads = options.num_threads}, [&](int64_t num_bytes) {
        options.progress(fmt::format("{:.1f} MB of text counted", static_cast<double>(num_bytes) * 1e-6));
      });
  if (counts.words.empty()) fail("there is no text to train a tokenizer on");
  if (counts.num_forgotten > 0) {
    options.progress(fmt::format("{} rare words were left out to save memory", counts.num_forgotten));
  }
  const LearnedBpe learned = learn_bpe(counts.words, learning, [&](int64_t num_tokens) {
    options.progress(fmt::format("{} of {} tokens", num_tokens, options.vocab_size));
  });
  for (const std::string& bytes : learned.new_tokens) tokens.push_back(to_byte_characters(bytes));
  if (static_cast<int64_t>(tokens.size()) < options.vocab_size) {
    fail(
        "cannot train a tokenizer of {} tokens on {} bytes of text: only {} came of it, since no other pair of tokens "
        "occurs {} times; give more text or a smaller vocabulary",
        options.vocab_size, counts.num_text_bytes, tokens.size(), options.min_frequency);
  }
  return file_contents(special, pre_tokenizer.json, tokens, learned.merges);
}

}  // namespace shoal
