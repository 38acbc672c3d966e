// tests/data/bpe_training_test.cpp: training byte-level BPE: the merges by definition, repeatable, and what is refused.
#include "data/bpe_training.h"

#include <catch2/catch.hpp>

#include <map>

#include "core/base/check.h"
#include "core/base/random.h"
#include "data/bpe_learner.h"
#include "data/word_counts.h"
#include "tests/data/small_bpe.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

std::string document(int i) {
  return "The quick  brown fox no. " + std::to_string(i) + " jumps over\tthe lazy caf\xC3\xA9 dog.\n\n" +
         std::string(static_cast<size_t>(i % 9), ' ') + "indented(" + std::to_string(i * i) + ");\r\n\n\n";
}

std::string train(const BpeTraining& options, int num_documents = 300) {
  int i = 0;
  return train_bpe(
      [&](std::string& text) {
        text = document(i);
        return i++ < num_documents;
      },
      options);
}

// One merge after the other, all pairs counted anew each time.
std::vector<BpeMerge> learn_plainly(const std::vector<WordCount>& words, const BpeLearning& options) {
  std::vector<std::vector<int32_t>> symbols;
  for (const WordCount& word : words) {
    symbols.emplace_back();
    for (const char c : word.word) symbols.back().push_back(options.byte_ids[static_cast<unsigned char>(c)]);
  }
  std::map<int32_t, std::string> tokens;
  std::map<std::string, int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) {
    const int32_t id = options.byte_ids[static_cast<size_t>(byte)];
    ids[tokens[id] = std::string(1, static_cast<char>(byte))] = id;
  }
  int32_t next_id = options.first_new_id;
  std::vector<BpeMerge> merges;
  while (next_id < options.vocab_size) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (size_t w = 0; w < words.size(); ++w) {
      for (size_t i = 0; i + 1 < symbols[w].size(); ++i) counts[{symbols[w][i], symbols[w][i + 1]}] += words[w].count;
    }
    std::pair<int32_t, int32_t> best;
    int64_t most = 0;
    for (const auto& [pair, count] : counts) {  // ascending pairs: the first of equals stays
      if (count > most) {
        most = count;
        best = pair;
      }
    }
    if (most < options.min_frequency) break;
    const std::string bytes = tokens[best.first] + tokens[best.second];
    const auto [known, is_new] = ids.emplace(bytes, next_id);
    if (is_new) tokens[next_id++] = bytes;
    merges.push_back({.left = best.first, .right = best.second, .result = known->second});
    for (auto& word : symbols) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != best.first || word[i + 1] != best.second) continue;
        word[i] = known->second;
        word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

}  // namespace

TEST_CASE("learning merges with counts kept up to date finds what counting anew finds") {
  BpeLearning options{
      .min_frequency = 1, .byte_ids = std::vector<int32_t>(256), .first_new_id = 300, .never_results = {}};
  for (int byte = 0; byte < 256; ++byte) options.byte_ids[static_cast<size_t>(byte)] = 299 - byte;
  const CounterRandom random(1, 2);
  uint64_t draw = 0;
  for (int round = 0; round < 60; ++round) {
    std::map<std::string, int64_t> counts;
    for (uint64_t n = 1 + random.below(40, ++draw); n > 0; --n) {
      std::string word;
      for (uint64_t length = 1 + random.below(14, ++draw); length > 0; --length)
        word += "abcd"[random.below(2 + round % 3, ++draw)];
      counts[word] += 1 + static_cast<int64_t>(random.below(3, ++draw));
    }
    std::vector<WordCount> words;
    for (const auto& [word, count] : counts) words.push_back({.word = word, .count = count});
    options.vocab_size = 300 + 1 + static_cast<int64_t>(random.below(60, ++draw));
    options.min_frequency = 1 + static_cast<int64_t>(random.below(3, ++draw));
    const auto expected = learn_plainly(words, options);
    const LearnedBpe learned = learn_bpe(words, options, [](int64_t) {});
    REQUIRE(learned.merges.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(round, i);
      CHECK(learned.merges[i].left == expected[i].left);
      CHECK(learned.merges[i].right == expected[i].right);
      CHECK(learned.merges[i].result == expected[i].result);
    }
  }
}

TEST_CASE("a trained tokenizer.json is read, lossless, and the same for any number of threads") {
  for (const std::string& name : bpe_pre_tokenizer_names()) {
    const BpeTraining options{
        .vocab_size = 310, .pre_tokenizer = name, .special_tokens = {"<|pad|>", "<|im_start|>"}, .num_threads = 1};
    const std::string contents = train(options);
    BpeTraining threads = options;
    threads.num_threads = 3;
    CHECK(train(threads) == contents);
    const BpeTokenizer tokenizer(contents, name + ".json");
    CAPTURE(name);
    CHECK(tokenizer.vocab_size() == 310);
    CHECK(tokenizer.eod_id() == 0);
    CHECK(tokenizer.is_lossless());
    const json template_there = json::parse(contents)["post_processor"];  // prompts begin with it elsewhere, as here
    CHECK(template_there["single"][0]["SpecialToken"]["id"] == "<|endoftext|>");
    CHECK(template_there["special_tokens"]["<|endoftext|>"]["ids"] == json{0});
    CHECK(tokenizer.bytes_of(1).empty());
    const std::string text = document(1234) + "\xFF <|endoftext|> <|pad|>";
    const auto ids = encode(tokenizer, text);
    CHECK(tokenizer.decode(ids) == text);
    CHECK(std::ranges::count_if(ids, [](int32_t id) { return id < 3; }) == 0);
    CHECK(encode(tokenizer, document(1)).size() < document(1).size() / 2);
  }
}

TEST_CASE("training takes any bytes and never makes a special token") {
  int i = 0;
  const std::string contents = train_bpe(
      [&](std::string& text) {
        text = "\xFF abab abab \xC3 " + std::string(5000, 'z') + (i % 2 == 0 ? "\xE2\x96" : "");
        return i++ < 40;
      },
      {.vocab_size = 268, .pre_tokenizer = "gpt2", .special_tokens = {"abab", "ab"}});
  const BpeTokenizer tokenizer(contents, "t.json");
  const auto ids = encode(tokenizer, "abab");
  CHECK(ids.size() == 4);
  CHECK(tokenizer.decode(ids) == "abab");
}

TEST_CASE("training that cannot be is refused") {
  CHECK_THROWS_WITH(train({.vocab_size = 100'000}),
                    Contains("cannot train a tokenizer of 100000 tokens") && Contains("more text"));
  CHECK_THROWS_WITH(train({.vocab_size = 256}),
                    Contains("a vocabulary of 256 tokens is too small") && Contains("need 257"));
  CHECK_THROWS_WITH(train({.vocab_size = 300, .pre_tokenizer = "bert"}),
                    Contains("expected one of gpt2, llama3, qwen, deepseek, found \"bert\""));
  CHECK_THROWS_WITH(train({.vocab_size = 300, .special_tokens = {"<|endoftext|>"}}), Contains("is there twice"));
  CHECK_THROWS_WITH(train({.vocab_size = 300, .special_tokens = {"x"}}), Contains("2 or more characters"));
  CHECK_THROWS_WITH(train({.vocab_size = 300, .special_tokens = {"\xFFxy"}}),
                    Contains("2 or more characters of UTF-8"));
  CHECK_THROWS_WITH(train({.vocab_size = 300}, 0), Contains("no text to train a tokenizer on"));
  CHECK_THROWS_WITH(train_bpe([](std::string&) -> bool { fail("line 3 is bad"); }, {.vocab_size = 400}),
                    Contains("line 3 is bad"));
}

TEST_CASE("words are counted in bounded memory: the rarest are forgotten first") {
  const PreTokenizer words({{.pattern = "[^ ]+", .behavior = SplitStage::Behavior::kIsolated, .place = "here"}});
  int i = 0;
  const auto next = [&](std::string& text) {
    text.clear();
    for (int k = 0; k < 1000; ++k) text += "often " + std::string(60, 'r') + std::to_string(i * 1000 + k) + " ";
    return i++ < 150;  // several blocks of 4 MiB
  };
  const auto all = count_words(next, words, {.num_threads = 2}, [](int64_t) {});
  CHECK(all.words.size() == 150'002);
  CHECK(all.num_forgotten == 0);
  i = 0;
  const auto bounded = count_words(next, words, {.num_threads = 2, .max_bytes = 8 << 20}, [](int64_t) {});
  CHECK(bounded.num_forgotten > 0);
  CHECK(bounded.words.size() < 60'000);
  const auto often = std::ranges::find(bounded.words, "often", &WordCount::word);
  REQUIRE(often != bounded.words.end());
  CHECK(often->count == 150'000);
}
