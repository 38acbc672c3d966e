// tests/data/word_encoding_test.cpp: encoding word by word from a cache gives SentencePiece's own tokens.
#include <catch2/catch.hpp>
#include <sentencepiece_processor.h>

#include <string>
#include <thread>
#include <vector>

#include "core/base/random.h"
#include "data/piece_boundaries.h"
#include "data/tokenizer_sentencepiece.h"
#include "data/word_cache.h"
#include "tests/data/temp_folder.h"

using namespace shoal;

TEST_CASE("texts are cut only where no piece has the two characters side by side") {
  PieceBoundaries boundaries;
  for (const char* piece : {" th", "e", "\xC3\xA9\xC3\xA9", "a\xC3\xA9", "  "}) boundaries.add_piece(piece);
  const auto parts = [&](std::string_view text) {
    std::vector<std::string> found;
    while (!text.empty()) {
      found.emplace_back(text.substr(0, boundaries.first_part(text)));
      text.remove_prefix(found.back().size());
    }
    return found;
  };
  CHECK(parts("e the") == std::vector<std::string>{"e", " th", "e"});
  CHECK(parts("   th\nt h") == std::vector<std::string>{"   th", "\n", "t", " ", "h"});
  CHECK(parts("a\xC3\xA9\xC3\xA9 \xC3\xA9"
              "a") == std::vector<std::string>{"a\xC3\xA9\xC3\xA9", " ", "\xC3\xA9", "a"});
  CHECK(parts("\xF0\x9F\x98\x80\xE4\xB8\xAD") == std::vector<std::string>{"\xF0\x9F\x98\x80", "\xE4\xB8\xAD"});
}

TEST_CASE("word by word gives the library's own tokens") {
  const CounterRandom random(5, 6);
  uint64_t draw = 0;
  const std::vector<std::string> words = {
      "the", "quick", "brown", "caf\xC3\xA9", "na\xC3\xAFve", "12",  "345", "--",
      "...", "\n",    "\t",    " ",           "  ",           "(x)", "O'",  "\xE4\xB8\xAD\xE6\x96\x87"};
  const auto random_text = [&](uint64_t num_words) {
    std::string text;
    for (uint64_t i = 0; i < num_words; ++i) {
      text += words[random.below(words.size(), ++draw)];
      if (random.below(3, ++draw) > 0) text += ' ';
    }
    return text;
  };
  int num_documents = 0;
  const std::string model = train_sentencepiece(
      [&](std::string& document) {
        document = random_text(40);
        return ++num_documents < 200;
      },
      {.vocab_size = 500});
  const TempFolder folder;
  write_bytes(folder / "m.model", model);
  const SentencePieceTokenizer tokenizer(folder / "m.model");
  sentencepiece::SentencePieceProcessor library;
  REQUIRE(library.LoadFromSerializedProto(model).ok());
  for (int i = 0; i < 400; ++i) {
    const std::string text = random_text(random.below(100, ++draw));
    std::vector<int> expected;
    REQUIRE(library.Encode(text, &expected).ok());
    std::vector<int32_t> found;
    tokenizer.encode(text, found);
    CAPTURE(text);
    CHECK(found == expected);
  }
}

TEST_CASE("the word cache gives back what it was given, or nothing") {
  WordCache cache;
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      // More words than the cache holds: some are forgotten, none is mixed up.
      for (int32_t i = 0; i < 200'000; ++i) {
        const int32_t word = (i * 7919 + static_cast<int32_t>(t)) % 400'000;
        std::vector<int32_t> ids = {-1};
        const std::string text = std::to_string(word);
        if (cache.append(text, ids)) {
          wrong[t] += ids != std::vector<int32_t>{-1, word, word + 1};
        } else {
          wrong[t] += ids != std::vector<int32_t>{-1};
          cache.insert(text, std::vector<int32_t>{word, word + 1});
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
  std::vector<int32_t> ids;
  const std::string longest(WordCache::kMaxWordBytes, 'x');
  cache.insert(longest, std::vector<int32_t>{1});
  cache.insert(longest + "x", std::vector<int32_t>{2});
  CHECK(cache.append(longest, ids));
  CHECK_FALSE(cache.append(longest + "x", ids));
}
