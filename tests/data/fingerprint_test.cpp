// tests/data/fingerprint_test.cpp: other data under the same names are told from the same data.
#include "data/fingerprint.h"

#include <catch2/catch.hpp>

#include <array>
#include <filesystem>
#include <numeric>

#include "core/base/input_file.h"
#include "core/config/compare.h"
#include "core/config/config.pb.h"
#include "data/indexed_dataset_writer.h"
#include "data/open_data.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

using Documents = std::vector<std::vector<int32_t>>;

void write_documents(const std::string& prefix, const Documents& documents) {
  IndexedDatasetWriter writer(prefix, 60000, ExistingFiles::kReplace);
  for (const auto& document : documents) writer.add_document(document);
  writer.finish();
}

void write_shard(const std::string& path, const std::vector<uint16_t>& tokens) {
  std::array<int32_t, 256> header{20240520, 1, static_cast<int32_t>(tokens.size())};
  std::string bytes(reinterpret_cast<const char*>(header.data()), sizeof(header));
  write_bytes(path, bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * 2));
}

std::string hash_of(const std::string& prefix) { return open_token_dataset(prefix)->fingerprint().xxh3_128; }

std::vector<uint16_t> some_tokens(size_t count) {
  std::vector<uint16_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), uint16_t{3});
  return tokens;
}

}  // namespace

TEST_CASE("an indexed dataset is known by its index and a sample of its tokens") {
  const TempFolder folder;
  const std::string prefix = folder / "a";
  write_documents(prefix, {{1, 2, 3}, {4, 5}});
  const SourceFingerprint first = open_token_dataset(prefix)->fingerprint();
  CHECK(first.tokens == 5);
  CHECK(first.documents == 2);
  CHECK_FALSE(first.shards.has_value());
  CHECK(first.xxh3_128.size() == 32);
  CHECK(hash_of(prefix) == first.xxh3_128);

  // Written again, or moved: the same.
  write_documents(folder / "b", {{1, 2, 3}, {4, 5}});
  CHECK(hash_of(folder / "b") == first.xxh3_128);
  // What nobody reads is no part of it.
  write_bytes(folder / "b.bin", read_bytes(prefix + ".bin") + "more");
  CHECK(hash_of(folder / "b") == first.xxh3_128);

  // The same tokens cut into other documents; other tokens in the same documents; wider tokens; a document more.
  write_documents(folder / "b", {{1, 2}, {3, 4, 5}});
  CHECK(hash_of(folder / "b") != first.xxh3_128);
  write_documents(folder / "b", {{1, 2, 3}, {4, 6}});
  CHECK(hash_of(folder / "b") != first.xxh3_128);
  write_documents(folder / "b", {{1, 2, 3}, {4, 5}, {6}});
  CHECK(hash_of(folder / "b") != first.xxh3_128);
  CHECK(open_token_dataset(folder / "b")->fingerprint().documents == 3);
  write_documents(folder / "b", {{1, 2, 3}, {4, 5}, {}});
  CHECK(hash_of(folder / "b") != first.xxh3_128);
}

TEST_CASE("of many tokens a sample from the first to the last is looked at") {
  const TempFolder folder;
  const std::string prefix = folder / "a";
  const size_t count = 300'000;
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>(i * 7 % 50000);
  write_documents(prefix, {tokens});
  const std::string before = hash_of(prefix);
  const std::string bytes = read_bytes(prefix + ".bin");
  const auto after_change_at = [&](size_t at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    write_bytes(prefix + ".bin", changed);
    return hash_of(prefix);
  };
  CHECK(after_change_at(0) != before);
  CHECK(after_change_at(4095) != before);
  CHECK(after_change_at(bytes.size() - 1) != before);
  CHECK(after_change_at(bytes.size() - 4096) != before);
  // Between pieces nothing is read: this is what it costs to be cheap.
  CHECK(after_change_at(4096) == before);
  // Where all tokens are others, as after another tokenizer, any piece tells.
  std::string others = bytes;
  for (size_t i = 0; i < others.size(); i += 2) others[i] = static_cast<char>(others[i] ^ 4);
  write_bytes(prefix + ".bin", others);
  CHECK(hash_of(prefix) != before);
}

TEST_CASE("a sample of every length covers its ends") {
  const TempFolder folder;
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{65536}, size_t{65537}, size_t{70001}}) {
    std::string text(bytes, 'a');
    const auto sample = [&] {
      write_bytes(folder / "t", "xx" + text);
      FingerprintHash hash;
      hash.add_sample(InputFile(folder / "t", "a test"), 2, static_cast<int64_t>(bytes));
      return hash.text();
    };
    const std::string before = sample();
    if (bytes == 0) continue;
    text.front() = 'b';
    const std::string first = sample();
    text.front() = 'a';
    text.back() = 'b';
    const std::string last = sample();
    INFO(bytes);
    CHECK(first != before);
    CHECK(last != before);
  }
}

TEST_CASE("shards are known by their names, sizes, headers and first tokens") {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "here");
  const auto write = [&](const std::string& name, const std::vector<uint16_t>& tokens) {
    write_shard(folder / "here/" + name, tokens);
  };
  write("s_1.bin", some_tokens(100));
  write("s_2.bin", some_tokens(101));
  const std::string pattern = folder / "here/s_*.bin";
  const SourceFingerprint first = open_token_dataset(pattern)->fingerprint();
  CHECK(first.tokens == 201);
  CHECK(first.shards == 2);
  CHECK_FALSE(first.documents.has_value());
  // Moved together: the same. A pattern that matches the same files: the same.
  std::filesystem::rename(folder / "here", folder / "there");
  CHECK(hash_of(folder / "there/s_*.bin") == first.xxh3_128);
  CHECK(hash_of(folder / "there/s_[12].bin") == first.xxh3_128);
  std::filesystem::rename(folder / "there", folder / "here");

  // One more, even an empty one; one less; another name; another length; other tokens.
  write("s_3.bin", {});
  CHECK(hash_of(pattern) != first.xxh3_128);
  CHECK(open_token_dataset(pattern)->fingerprint().shards == 3);
  std::filesystem::remove(folder / "here/s_3.bin");
  CHECK(hash_of(pattern) == first.xxh3_128);
  std::filesystem::rename(folder / "here/s_2.bin", folder / "here/s_4.bin");
  CHECK(hash_of(pattern) != first.xxh3_128);
  std::filesystem::rename(folder / "here/s_4.bin", folder / "here/s_2.bin");
  write("s_1.bin", some_tokens(102));
  CHECK(hash_of(pattern) != first.xxh3_128);
  std::vector<uint16_t> other = some_tokens(100);
  other[50] = 2;
  write("s_1.bin", other);
  CHECK(hash_of(pattern) != first.xxh3_128);
  CHECK(open_token_dataset(pattern)->num_tokens() == 201);
}

TEST_CASE("what changed is told by the config's names") {
  const TempFolder folder;
  write_documents(folder / "a", {{1, 2, 3, 4, 5, 6}, {7, 8}});
  write_shard(folder / "s_1.bin", some_tokens(40));
  DataConfig config;
  config.set_seq_len(4);
  config.add_train()->set_prefix(folder / "a");
  config.add_train()->set_prefix(folder / "s_*.bin");
  const auto fingerprints = [&] { return open_training_stream(config, 60000, 1, nullptr)->fingerprints(); };
  const DataFingerprint was{.train = fingerprints(), .tokenizer = "bpe-1"};
  REQUIRE(was.train.size() == 2);
  CHECK(compare_data(was, {.train = fingerprints(), .tokenizer = "bpe-1"}, {}).empty());
  write_shard(folder / "s_2.bin", some_tokens(10));
  const auto changes = compare_data(was, {.train = fingerprints(), .tokenizer = "bpe-2"}, {"a", "s_*.bin"});
  REQUIRE(changes.size() == 2);
  CHECK(changes[0].path == "data.train[1]");
  CHECK_THAT(changes[0].was, Contains("1 shard(s), 40 tokens, xxh3_128 "));
  CHECK_THAT(changes[0].is, Contains("2 shard(s), 50 tokens, xxh3_128 ") && Contains("(s_*.bin)"));
  CHECK(changes[0].matters);
  CHECK(changes[1].path == "data.tokenizer");
  CHECK(changes[1].was == "bpe-1");
  CHECK(changes[1].is == "bpe-2");
  CHECK(is_covered(changes[0].path, {"data"}));
  CHECK(is_covered(changes[0].path, {"data.train"}));
  // A folder that was moved, and may be, is no leave to change what lies in it.
  CHECK_FALSE(is_covered(changes[0].path, {"data.train[1].prefix", "data.train[0]"}));
  // One source or tokenizer more, or less: the configs differ, and say so.
  CHECK(compare_data(was, {.train = {was.train[0]}, .tokenizer = ""}, {}).empty());
  CHECK(compare_data({}, was, {}).empty());
}
