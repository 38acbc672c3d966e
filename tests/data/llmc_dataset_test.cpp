// tests/data/llmc_dataset_test.cpp: llm.c's token shards: documents across shards, and files nobody should trust.
#include "data/llmc_dataset.h"

#include <catch2/catch.hpp>

#include <array>
#include <cstring>
#include <numeric>
#include <thread>

#include "core/base/check.h"
#include "core/config/config.pb.h"
#include "data/open_data.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

template <class Token>
std::string shard(const std::vector<Token>& tokens, int32_t magic = sizeof(Token) == 2 ? 20240520 : 20240801,
                  int32_t version = sizeof(Token) == 2 ? 1 : 7) {
  std::array<int32_t, 256> header{magic, version, static_cast<int32_t>(tokens.size())};
  std::string bytes(reinterpret_cast<const char*>(header.data()), sizeof(header));
  return bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token));
}
using Gpt2 = std::vector<uint16_t>;
using Llama3 = std::vector<uint32_t>;

std::vector<int32_t> read_all(const TokenDataset& dataset, int64_t vocab_size) {
  std::vector<int32_t> tokens(static_cast<size_t>(dataset.num_tokens()));
  dataset.read(0, tokens, vocab_size);
  return tokens;
}

std::string error_of(const std::string& path) {
  try {
    open_token_dataset(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("llm.c shards of both kinds are read, by name and by pattern") {
  const TempFolder folder;
  write_bytes(folder / "t_train_000002.bin", shard(Gpt2{7, 50256, 8}));
  write_bytes(folder / "t_train_000001.bin", shard(Gpt2{50256, 1, 2, 50256, 65535}));
  write_bytes(folder / "t_train_000003.bin", shard(Gpt2{}));
  write_bytes(folder / "t_train_000010.bin", shard(Gpt2{9}));
  write_bytes(folder / "t_val_000000.bin", shard(Llama3{128000, 5, 128255}));
  const auto train = open_token_dataset(folder / "t_train_*.bin");
  CHECK(train->num_tokens() == 9);
  CHECK(train->prefix() == folder / "t_train_*.bin");
  const std::vector<int32_t> expected = {50256, 1, 2, 50256, 65535, 7, 50256, 8, 9};
  CHECK(read_all(*train, 65536) == expected);
  for (int64_t first = 0; first < 9; ++first) {
    for (int64_t count = 0; first + count <= 9; ++count) {
      std::vector<int32_t> window(static_cast<size_t>(count));
      train->read(first, window, 65536);
      CHECK(std::equal(window.begin(), window.end(), expected.begin() + first));
      std::vector<int32_t> starts;
      for (int32_t i = 1; i < count; ++i) {
        if (window[static_cast<size_t>(i)] == 50256) starts.push_back(i);
      }
      CHECK(train->document_starts_in(first, window) == starts);
    }
  }
  CHECK(read_all(*open_token_dataset(folder / "t_train_000001.bin"), 65536) ==
        std::vector<int32_t>{50256, 1, 2, 50256, 65535});
  CHECK(read_all(*open_token_dataset(folder / "t_val_000000.bin"), 128256) == std::vector<int32_t>{128000, 5, 128255});
}

TEST_CASE("llm.c shards are training and validation data") {
  const TempFolder folder;
  Gpt2 tokens(101);
  std::iota(tokens.begin(), tokens.end(), uint16_t{0});
  tokens[0] = tokens[13] = tokens[14] = 50256;
  write_bytes(folder / "a.bin", shard(tokens));
  DataConfig config;
  config.add_train()->set_prefix(folder / "a.bin");
  config.add_validation()->set_prefix(folder / "[a].bin");
  config.set_seq_len(10);
  config.set_shuffle(false);
  config.set_mask_documents(true);
  const auto stream = open_training_stream(config, 50257, 1, nullptr);
  Sample sample;
  stream->read(1, sample);
  CHECK(sample.tokens == std::vector<int32_t>{10, 11, 12, 50256, 50256, 15, 16, 17, 18, 19});
  CHECK(sample.document_starts == std::vector<int32_t>{0, 3, 4});
  CHECK(sample.positions == std::vector<int32_t>{0, 1, 2, 0, 0, 1, 2, 3, 4, 5});
  CHECK(open_validation_stream(config, 50257, nullptr)->num_samples() == 10);
  CHECK_THROWS_WITH(open_training_stream(config, 1000, 1, nullptr),
                    Contains("a.bin: documents in llm.c shards begin with token 50256") && Contains("mask_documents"));
  config.set_mask_documents(false);
  const auto narrow = open_training_stream(config, 1000, 1, nullptr);
  CHECK_THROWS_WITH(narrow->read(1, sample),
                    Contains("a.bin: token 13 is outside the vocabulary: expected 0 to 999, found 50256"));
}

TEST_CASE("llm.c shards that are damaged, of another kind or not there are refused") {
  const TempFolder folder;
  const std::string path = folder / "x.bin";
  const auto error_with = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    return error_of(path);
  };
  CHECK_THAT(error_of(folder / "none.bin"), Contains("none.bin: No such file"));
  CHECK_THAT(error_of(folder / "none_*"), Contains("no file matches"));
  std::filesystem::create_directory(folder / "folder.bin");
  CHECK_THAT(error_of(folder / "folder.bin"), Contains("expected a regular file"));
  const std::string whole = shard(Gpt2{1, 2, 3});
  for (size_t length = 0; length < whole.size(); ++length) {
    CHECK_THAT(error_with(whole.substr(0, length)), Contains("x.bin") && Contains("damaged or cut short"));
  }
  CHECK_THAT(error_with(whole + "x"), Contains("3 tokens of 2 bytes need a file of 1030 bytes, found 1031"));
  CHECK_THAT(error_with(shard(Gpt2{1, 2}, 20240522)),
             Contains("at byte 0: expected the magic number 20240520 or 20240801") && Contains("found 20240522"));
  CHECK_THAT(error_with(std::string(5000, 'a')), Contains("without .bin"));
  CHECK_THAT(error_with(shard(Gpt2{1, 2}, 20240520, 2)),
             Contains("at byte 4: expected version 1") && Contains("found 2"));
  CHECK_THAT(error_with(shard(Gpt2{1, 2}, 20240801, 7)),
             Contains("2 tokens of 4 bytes need a file of 1032 bytes, found 1028"));
  std::string negative = whole;
  const int32_t minus_one = -1;
  std::memcpy(negative.data() + 8, &minus_one, sizeof(minus_one));
  CHECK_THAT(error_with(negative), Contains("at byte 8: -1 tokens"));
  write_bytes(folder / "y1.bin", shard(Gpt2{1}));
  write_bytes(folder / "y2.bin", shard(Llama3{1}));
  CHECK_THAT(error_of(folder / "y*.bin"),
             Contains("y2.bin at byte 0: expected shards of one kind (20240520), found 20240801"));
}

TEST_CASE("an llm.c shard that is cut short or replaced during the run is an error") {
  const TempFolder folder;
  write_bytes(folder / "a.bin", shard(Gpt2(1000, 3)));
  const auto dataset = open_token_dataset(folder / "a.bin");
  std::filesystem::resize_file(folder / "a.bin", 1500);
  std::vector<int32_t> tokens(10);
  CHECK_THROWS_WITH(dataset->read(0, tokens, 100), Contains("a.bin changed during the run: expected 3024 bytes"));
  write_bytes(folder / "a.bin", shard(Gpt2(1000, 3)));
  dataset->read(0, tokens, 100);
  std::filesystem::resize_file(folder / "a.bin", 1500);
  dataset->read(0, tokens, 100);
  CHECK_THROWS_WITH(dataset->read(900, tokens, 100), Contains("a.bin ends too early"));
}

TEST_CASE("more llm.c shards than are kept open, read by several threads") {
  const TempFolder folder;
  for (int i = 0; i < 200; ++i) {
    write_bytes(folder / ("s" + std::to_string(1000 + i) + ".bin"), shard(Gpt2(3, static_cast<uint16_t>(i))));
  }
  const auto dataset = open_token_dataset(folder / "s*.bin");
  std::vector<int> wrong(3, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      std::vector<int32_t> tokens(4);
      for (int64_t i = 0; i < 2000; ++i) {
        const int64_t first = (i * 271 + static_cast<int64_t>(t) * 97) % 596;
        dataset->read(first, tokens, 200);
        for (int64_t k = 0; k < 4; ++k) wrong[t] += tokens[static_cast<size_t>(k)] != (first + k) / 3;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(3, 0));
}
