// tests/data/tokenizer_bpe_test.cpp: every byte comes back, merges by definition, threads, special tokens.
#include "data/tokenizer_bpe.h"

#include <catch2/catch.hpp>

#include <map>
#include <numeric>
#include <thread>

#include "core/base/check.h"
#include "core/base/random.h"
#include "tests/data/small_bpe.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

BpeTokenizer make(const json& file) { return BpeTokenizer(file.dump(), "t.json"); }

const BpeTokenizer& small() {
  static const BpeTokenizer tokenizer(small_bpe(sequence({split(kLlama3Pattern)})).dump(), "small.json");
  return tokenizer;
}

}  // namespace

TEST_CASE("byte-level BPE: a piece that is a token as a whole, where merges are ignored") {
  json file = small_bpe(sequence({split(kLlama3Pattern)}));
  file["model"]["ignore_merges"] = true;
  CHECK(encode(make(file), " world hello abc") == std::vector<int32_t>{265, 280, 221, 279});
  file["model"]["merges"].erase(file["model"]["merges"].size() - 1);  // " hello" stays a token
  CHECK(encode(make(file), " hello") == std::vector<int32_t>{280});
  file["model"]["ignore_merges"] = false;
  CHECK(encode(make(file), " hello") == std::vector<int32_t>{221, 260});
}

TEST_CASE("byte-level BPE gives back every string of bytes, and no text is a special token") {
  const CounterRandom random(3, 4);
  uint64_t draw = 0;
  const std::vector<std::string> parts = {" ",
                                          "\n",
                                          "hello",
                                          "the",
                                          "caf\xC3\xA9",
                                          "\xFF",
                                          "\xE4\xB8\xAD",
                                          "\xE4",
                                          "\xB8",
                                          "\x81",
                                          "1234",
                                          "  ",
                                          "\xF0\x9F\x98\x80",
                                          "'s",
                                          "x",
                                          "\0",
                                          "<|endoftext|>"};
  const auto check = [&](const std::string& text) {
    CAPTURE(text);
    const auto ids = encode(small(), text);
    CHECK(small().decode(ids) == text);
    CHECK(std::ranges::find(ids, small().eod_id()) == ids.end());
  };
  for (int i = 0; i < 400; ++i) {
    std::string bytes;
    std::string words;
    for (uint64_t n = random.below(80, ++draw); n > 0; --n) {
      bytes += static_cast<char>(random.below(256, ++draw));
      words += parts[random.below(parts.size(), ++draw)];
    }
    check(bytes);
    check(words);
  }
  check(std::string(300'000, 'l'));
  check(std::string(300'000, ' '));
  check(std::string("\xF0\x9F\x98", 3));
  CHECK(encode(small(),
               "a\xFF"
               "b") == std::vector<int32_t>{65, encode(small(), "\xFF").at(0), 66});
}

TEST_CASE("byte-level BPE: merges agree with a plain search, long pieces included") {
  // Earliest merge first, leftmost first among equals, by definition.
  const TokenizerJson file = parse_tokenizer_json(small_bpe().dump(), "t.json");
  std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>> ranks;
  for (size_t i = 0; i < file.merges.size(); ++i) {
    ranks[{file.merges[i].left, file.merges[i].right}] = {i, file.merges[i].result};
  }
  const BpeMerges merges(file.merges, file.byte_ids);
  BpeMerges::Scratch scratch;
  const CounterRandom random(5, 6);
  uint64_t draw = 0;
  for (int i = 0; i < 500; ++i) {
    std::string piece;
    for (uint64_t n = random.below(i % 50 == 0 ? 600 : 30, ++draw); n > 0; --n) {
      piece += "helo wrdabc1234"[random.below(15, ++draw)];
    }
    std::vector<int32_t> expected;
    for (const char c : piece) expected.push_back(file.byte_ids[static_cast<unsigned char>(c)]);
    for (;;) {
      size_t best = expected.size();
      std::pair<size_t, int32_t> best_merge{ranks.size() + 1, 0};
      for (size_t at = 0; at + 1 < expected.size(); ++at) {
        const auto found = ranks.find({expected[at], expected[at + 1]});
        if (found != ranks.end() && found->second.first < best_merge.first) {
          best = at;
          best_merge = found->second;
        }
      }
      if (best == expected.size()) break;
      expected[best] = best_merge.second;
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    std::vector<int32_t> found;
    merges.encode(piece, scratch, found);
    CAPTURE(piece);
    CHECK(found == expected);
  }
}

TEST_CASE("byte-level BPE: several threads may encode at once") {
  const std::string text = "hello world's  1234567 hello!!\n\n x caf\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87 abcab";
  const auto expected = encode(small(), text);
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) encode(small(), text + std::to_string(i));
      ids = encode(small(), text);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& ids : found) CHECK(ids == expected);
}

TEST_CASE("byte-level BPE: what a tokenizer tells of itself") {
  const TempFolder folder;
  const std::string contents = small_bpe().dump(1);
  write_bytes(folder / "tokenizer.json", contents);
  const auto tokenizer = open_tokenizer(folder / "tokenizer.json");
  CHECK(tokenizer->name() == "bpe");
  CHECK(tokenizer->file_bytes() == contents);
  CHECK_THAT(tokenizer->fingerprint(), Catch::Matchers::StartsWith("bpe-"));
  CHECK(tokenizer->fingerprint() == BpeTokenizer(contents, "elsewhere.json").fingerprint());
  CHECK(tokenizer->fingerprint() != small().fingerprint());
  CHECK(tokenizer->vocab_size() == 281);
  CHECK(tokenizer->eod_id() == 0);
  CHECK(tokenizer->bytes_of(0).empty());
  CHECK(tokenizer->bytes_of(265) == " world");
  CHECK_THROWS_WITH(tokenizer->bytes_of(281), Contains("token 281 is outside the vocabulary") && Contains("0 to 280"));
  CHECK_THROWS_WITH(tokenizer->bytes_of(-1), Contains("token -1"));

  // Which special token ends a document.
  json file = small_bpe();
  file["added_tokens"].push_back(added_token(281, "</s>", true));
  CHECK(make(file).eod_id() == 0);
  file["added_tokens"][0]["special"] = false;
  CHECK(make(file).eod_id() == 281);
  file["added_tokens"][1]["content"] = "<stop>";
  CHECK(make(file).eod_id() == 281);  // the only one
  file["added_tokens"].push_back(added_token(282, "<go>", true));
  CHECK_THROWS_WITH(make(file), Contains("a special token that ends a document") && Contains("found <stop> <go>"));
  file["added_tokens"] = json::array();
  CHECK_THROWS_WITH(make(file), Contains("found no special token"));
}

TEST_CASE("byte-level BPE: tokens of white space that take white space along cost no more than the text is long") {
  json file = small_bpe();
  json space = added_token(281, "\u3000");
  const int32_t x = encode(make(file), "x").at(0);
  for (const bool left : {false, true}) {
    for (const bool right : {false, true}) {
      space["lstrip"] = left;
      space["rstrip"] = right;
      file["added_tokens"][1] = space;
      const BpeTokenizer tokenizer = make(file);
      for (const size_t count : {size_t{3}, size_t{300'000}}) {
        std::string text;
        for (size_t i = 0; i < count; ++i) text += "\u3000";
        std::vector<int32_t> expected(count, 281);
        expected.push_back(x);
        CHECK((encode(tokenizer, text + "x") == expected));
      }
    }
  }
}

TEST_CASE("byte-level BPE: bytes without a token are left out, and said to be lost") {
  json file = small_bpe();
  file["model"]["vocab"].erase("z");
  for (json& id : file["model"]["vocab"]) {
    if (id.get<int>() > 90) id = id.get<int>() - 1;  // no gap
  }
  const BpeTokenizer tokenizer = make(file);
  CHECK_FALSE(tokenizer.is_lossless());
  CHECK(tokenizer.decode(encode(tokenizer, "fuzzy")) == "fuy");
  file["model"]["unk_token"] = "<|endoftext|>";
  CHECK_THROWS_WITH(make(file), Contains("model.unk_token") && Contains("256 bytes"));
}
