// tests/data/tokenizer_test.cpp: every string of bytes comes back, and no model file can hurt.
#include "data/tokenizer.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <numeric>
#include <thread>

#include "core/base/check.h"
#include "core/base/random.h"
#include "data/sentencepiece_model.h"
#include "data/tokenizer_sentencepiece.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

std::string training_document(int i) {
  return "The quick  brown fox no. " + std::to_string(i) + " jumps over\tthe lazy caf\xC3\xA9 dog.\n\n" +
         std::string(static_cast<size_t>(i % 9), ' ') + "indented(" + std::to_string(i * i) + ");\r\n\n\n";
}

std::string train_model(int64_t vocab_size, int num_documents = 300) {
  int i = 0;
  return train_sentencepiece(
      [&](std::string& document) {
        document = training_document(i);
        return i++ < num_documents;
      },
      {.vocab_size = vocab_size});
}

const std::string& small_model() {
  static const std::string model = train_model(400);
  return model;
}

std::unique_ptr<Tokenizer> open_small_model() {
  const TempFolder folder;
  write_bytes(folder / "small.model", small_model());
  return open_tokenizer(folder / "small.model");
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

void check_round_trip(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = encode(tokenizer, text);
  CAPTURE(text);
  CHECK(tokenizer.decode(ids) == text);
  CHECK(std::ranges::find(ids, tokenizer.eod_id()) == ids.end());
  const auto lengths = tokenizer.byte_lengths();
  size_t bytes = 0;
  for (const int32_t id : ids) bytes += static_cast<size_t>(lengths.at(static_cast<size_t>(id)));
  CHECK(bytes == text.size());
}

std::string all_bytes() {
  std::string bytes(256, '\0');
  std::iota(bytes.begin(), bytes.end(), '\0');
  return bytes;
}

}  // namespace

TEST_CASE("every tokenizer gives back every string of bytes") {
  const std::string name = GENERATE("bytes", "sentencepiece");
  const auto tokenizer = name == "bytes" ? open_tokenizer("bytes") : open_small_model();
  REQUIRE(tokenizer->name() == name);
  REQUIRE(tokenizer->is_lossless());
  const std::string escape = "\xE2\x96\x81";  // U+2581, SentencePiece's own sign for a space
  for (const std::string& text : {
           std::string(),
           std::string(" "),
           std::string("   leading, trailing and   inner spaces   "),
           std::string("\n\n\n\n a \n\n\t\t b\r\n\r\n\r"),
           std::string("emoji \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB and \xE4\xB8\xAD\xE6\x96\x87"),
           std::string("e\xCC\x81 \xEF\xAC\x81 \xEF\xBC\xA1 \xC2\xA0 \xE3\x80\x80"),  // what NFKC would change
           escape,
           "a" + escape + escape + " " + escape + "b",
           std::string("\xE2\x96 \x81\xE2\xE2\x96\x81"),  // parts of it
           std::string(
               "\xEF\xBF\xBD \xE2\x81\x87 \xE2\x96\x85"),  // replacement character, SentencePiece's reserved ones
           std::string("<unk> <0x0A> <|endoftext|> </s> <s>"),
           std::string("\0 nul \0\0", 8),
           std::string("\xFF\xFE not \xC0\x80 UTF-8 \xED\xA0\x80 \xC3"),
           all_bytes(),
           training_document(7),
       }) {
    check_round_trip(*tokenizer, text);
  }
}

TEST_CASE("random bytes and random characters come back") {
  const auto tokenizer = open_small_model();
  const CounterRandom random(1, 2);
  uint64_t draw = 0;
  const std::vector<std::string> parts = {" ",    "\n",   "\xE2\x96\x81", "the", "caf\xC3\xA9", "\xFF",
                                          "\xE2", "\x96", "\x81",         "\t",  "  ",          "\xF0\x9F\x98\x80",
                                          "over", "x",    "\0",           "."};
  for (int i = 0; i < 300; ++i) {
    std::string bytes;
    std::string words;
    for (uint64_t n = random.below(60, ++draw); n > 0; --n) {
      bytes += static_cast<char>(random.below(256, ++draw));
      words += parts[random.below(parts.size(), ++draw)];
    }
    check_round_trip(*tokenizer, bytes);
    check_round_trip(*tokenizer, words);
  }
}

TEST_CASE("a long text is the same tokens whether it is cut or not") {
  const auto tokenizer = open_small_model();
  std::string text;
  std::vector<int32_t> expected;
  for (int i = 0; i < 2000; ++i) {
    text += training_document(i);
    const auto ids = encode(*tokenizer, training_document(i));  // ends in newlines: nothing merges across
    expected.insert(expected.end(), ids.begin(), ids.end());
  }
  CHECK(text.size() > 100'000);
  CHECK(encode(*tokenizer, text) == expected);
  check_round_trip(*tokenizer, std::string(100'000, 'x'));
}

TEST_CASE("several threads may encode at once") {
  const auto tokenizer = open_small_model();
  const auto expected = encode(*tokenizer, training_document(5));
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) encode(*tokenizer, training_document(i));
      ids = encode(*tokenizer, training_document(5));
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& ids : found) CHECK(ids == expected);
}

TEST_CASE("ids, special tokens and fingerprints") {
  const auto bytes = open_tokenizer("bytes");
  CHECK(bytes->vocab_size() == 257);
  CHECK(bytes->eod_id() == 256);
  CHECK(encode(*bytes, "a\xFF") == std::vector<int32_t>{97, 255});
  CHECK(bytes->bytes_of(256).empty());
  CHECK_THROWS_WITH(bytes->bytes_of(257), Contains("token 257 is outside"));
  CHECK_THROWS_WITH(bytes->bytes_of(-1), Contains("token -1 is outside"));

  const auto small = open_small_model();
  CHECK(small->vocab_size() == 400);
  CHECK(small->bytes_of(small->eod_id()).empty());
  CHECK_THROWS_WITH(small->bytes_of(400), Contains("token 400 is outside the vocabulary") && Contains("0 to 399"));
  CHECK(small->fingerprint() == open_small_model()->fingerprint());
  CHECK(small->fingerprint() != bytes->fingerprint());
  CHECK(encode(*small, training_document(1)).size() < training_document(1).size() / 2);
  for (const int32_t id : encode(*small, "\n\n \n")) CHECK(small->bytes_of(id).size() == 1);
}

TEST_CASE("training is repeatable and says when the text is too little") {
  CHECK(train_model(400) == small_model());
  CHECK_THROWS_WITH(train_model(100'000),
                    Contains("cannot train a tokenizer of 100000 pieces") && Contains("too high"));
  CHECK_THROWS_WITH(train_model(265), Contains("cannot train a tokenizer of 265 pieces"));
  CHECK_THROWS_WITH(train_model(400, 0), Contains("no text to train a tokenizer on"));
  CHECK_THROWS_WITH(train_sentencepiece([](std::string&) -> bool { fail("line 3 is bad"); }, {.vocab_size = 400}),
                    Contains("line 3 is bad"));
}

TEST_CASE("training takes documents of any bytes and any length") {
  int i = 0;
  const std::string model = train_sentencepiece(
      [&](std::string& document) {
        document = i % 2 == 0 ? std::string(20'000, 'a') + training_document(i) : "\xFF\n\xE2\x96\x81 \n" + all_bytes();
        return i++ < 100;
      },
      {.vocab_size = 500});
  const TempFolder folder;
  write_bytes(folder / "m", model);
  check_round_trip(*open_tokenizer(folder / "m"), all_bytes() + training_document(3));
}

TEST_CASE("a model file that is missing, damaged or of another kind is refused") {
  const TempFolder folder;
  const std::string path = folder / "t.model";
  CHECK_THROWS_WITH(open_tokenizer(path), Contains("t.model: No such file") && Contains("\"bytes\""));
  const auto error_of = [&](const std::string& contents) -> std::string {
    write_bytes(path, contents);
    try {
      open_tokenizer(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK_THAT(error_of(""), Contains("t.model is no sound SentencePiece model: found no pieces"));
  CHECK_THAT(error_of("{\"version\": \"1.0\"}"), Contains("no sound SentencePiece model"));
  CHECK_THAT(error_of(std::string(1000, '\0')), Contains("a field numbered 0"));
  CHECK_THAT(error_of("\x0A\xFF\xFF\xFF\xFF\x0F"), Contains("longer than the file"));
  CHECK_THAT(error_of(std::string(11, '\xFF')), Contains("more than 10 bytes"));
  CHECK_THAT(error_of(small_model() + "\x0A\x03\x0A\x01"
                                      "a"),
             Contains("the piece \"a\" twice"));
  CHECK_THAT(error_of(small_model() + std::string("\x0A\x04\x0A\x02"
                                                  "b\0",
                                                  6)),
             Contains("not UTF-8"));
  CHECK_THAT(error_of(small_model() + "\x12\x02\x18\x01"), Contains("field 2 twice"));
  CHECK_THAT(error_of("\x0A\x03\x0A\x01"
                      "a"
                      "\x1A\x03\x12\x01x"),
             Contains("normalises text"));
  CHECK_THAT(error_of("\x0A\x03\x0A\x01"
                      "a"),
             Contains("unk"));
  write_bytes(path, "");
  std::filesystem::resize_file(path, (64 << 20) + 1);
  CHECK_THROWS_WITH(open_tokenizer(path), Contains("67108865 bytes, more than the 67108864"));
}

TEST_CASE("a model cut at any length or with any flipped bit is refused or works") {
  const TempFolder folder;
  const std::string path = folder / "t.model";
  const std::string& model = small_model();
  int accepted = 0;
  const auto try_model = [&](const std::string& contents) {
    write_bytes(path, contents);
    try {
      const auto tokenizer = open_tokenizer(path);
      ++accepted;
      const std::string text = training_document(1) + "\xFF";
      const std::string decoded = tokenizer->decode(encode(*tokenizer, text));
      if (tokenizer->is_lossless()) CHECK(decoded == text);
    } catch (const Error&) {
    }
  };
  for (size_t length = 0; length < model.size(); length += 13) try_model(model.substr(0, length));
  CHECK(accepted == 0);  // what is behind the pieces, the specs, is always needed
  for (size_t bit = 0; bit < model.size() * 8; bit += 29) {
    std::string flipped = model;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try_model(flipped);
  }
  CHECK(accepted > 0);
}
