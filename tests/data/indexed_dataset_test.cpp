// tests/data/indexed_dataset_test.cpp: Megatron's token files: golden bytes, round trips, and files nobody should
// trust.
#include "data/indexed_dataset.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/base/check.h"
#include "data/indexed_dataset_writer.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

template <class T>
std::string little_endian(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// By hand from the format's description: documents of 3, 0 and 2 tokens.
struct HandMade {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  uint64_t version = 1;
  uint8_t code = 8;
  uint64_t num_sequences = 3;
  uint64_t num_entries = 4;
  std::vector<int32_t> lengths = {3, 0, 2};
  std::vector<int64_t> pointers = {0, 6, 6};
  std::vector<int64_t> documents = {0, 1, 2, 3};
  std::vector<uint16_t> tokens = {7, 8, 65498, 0, 1};

  std::string idx() const {
    std::string bytes = magic + little_endian(version) + little_endian(code) + little_endian(num_sequences) +
                        little_endian(num_entries);
    for (const auto value : lengths) bytes += little_endian(value);
    for (const auto value : pointers) bytes += little_endian(value);
    for (const auto value : documents) bytes += little_endian(value);
    return bytes;
  }
  std::string bin() const { return {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(uint16_t)}; }
  void write(const std::string& prefix) const {
    write_bytes(prefix + ".idx", idx());
    write_bytes(prefix + ".bin", bin());
  }
};

std::vector<int32_t> read_all(const IndexedDataset& dataset, int64_t vocab_size) {
  std::vector<int32_t> tokens(static_cast<size_t>(dataset.num_tokens()));
  dataset.read(0, tokens, vocab_size);
  return tokens;
}

void write_documents(const std::string& prefix, int64_t vocab_size,
                     const std::vector<std::vector<int32_t>>& documents) {
  IndexedDatasetWriter writer(prefix, vocab_size, ExistingFiles::kRefuse);
  for (const auto& document : documents) writer.add_document(document);
  writer.finish();
}

}  // namespace

TEST_CASE("the writer's bytes are Megatron's") {
  const TempFolder folder;
  const HandMade expected;
  write_documents(folder / "a", 65499, {});
  CHECK(read_bytes(folder / "a.bin").empty());
  CHECK(read_bytes(folder / "a.idx").size() == 34 + 8);

  IndexedDatasetWriter writer(folder / "b", 65499, ExistingFiles::kRefuse);
  writer.add_document(std::vector<int32_t>{7, 8, 65498});
  writer.add_document({});
  writer.add_document(std::vector<int32_t>{0, 1});
  CHECK(writer.num_documents() == 3);
  CHECK(writer.num_tokens() == 5);
  writer.finish();
  CHECK(read_bytes(folder / "b.idx") == expected.idx());
  CHECK(read_bytes(folder / "b.bin") == expected.bin());
}

TEST_CASE("a vocabulary of 65500 is written in 32 bits") {
  const TempFolder folder;
  write_documents(folder / "wide", 65500, {{65499, 1}});
  CHECK(read_bytes(folder / "wide.bin") == little_endian(int32_t{65499}) + little_endian(int32_t{1}));
  CHECK(read_bytes(folder / "wide.idx")[17] == 4);
  CHECK(read_all(IndexedDataset(folder / "wide"), 65500) == std::vector<int32_t>{65499, 1});
}

TEST_CASE("a hand-made dataset is read") {
  const TempFolder folder;
  HandMade files;
  const std::string prefix = folder / "hand";
  files.write(prefix);
  const IndexedDataset dataset(prefix);
  CHECK(dataset.num_documents() == 3);
  CHECK(dataset.document_starts() == std::vector<int64_t>{0, 3, 3, 5});
  CHECK(read_all(dataset, 65499) == std::vector<int32_t>{7, 8, 65498, 0, 1});
  std::vector<int32_t> two(2);
  dataset.read(1, two, 65500);
  CHECK(two == std::vector<int32_t>{8, 65498});
  CHECK_THROWS_WITH(dataset.read(4, two, 65500), Contains("check failed"));

  SECTION("with modes behind the documents, and with a longer .bin") {
    write_bytes(prefix + ".idx", files.idx() + std::string(3, '\1'));
    write_bytes(prefix + ".bin", files.bin() + "more");
    CHECK(read_all(IndexedDataset(prefix), 65499) == std::vector<int32_t>{7, 8, 65498, 0, 1});
  }
  SECTION("documents of several sequences") {
    files.documents = {0, 2, 2, 3};
    files.write(prefix);
    CHECK(IndexedDataset(prefix).document_starts() == std::vector<int64_t>{0, 3, 3, 5});
    files.documents = {0, 3};
    files.num_entries = 2;
    files.write(prefix);
    CHECK(IndexedDataset(prefix).num_documents() == 1);
  }
}

TEST_CASE("every integer type of tokens is read") {
  const TempFolder folder;
  const std::string prefix = folder / "typed";
  const auto check = [&]<class T>(T, uint8_t code) {
    HandMade files;
    files.code = code;
    files.pointers = {0, 3 * sizeof(T), 3 * sizeof(T)};
    files.write(prefix);
    std::string bin;
    for (const int value : {5, 100, 7, 0, 127}) bin += little_endian(static_cast<T>(value));
    write_bytes(prefix + ".bin", bin);
    CHECK(read_all(IndexedDataset(prefix), 128) == std::vector<int32_t>{5, 100, 7, 0, 127});
  };
  check(uint8_t{}, 1);
  check(int8_t{}, 2);
  check(int16_t{}, 3);
  check(int32_t{}, 4);
  check(int64_t{}, 5);
  check(uint16_t{}, 8);
}

TEST_CASE("tokens outside the vocabulary are named") {
  const TempFolder folder;
  const std::string prefix = folder / "bad";
  HandMade files;
  files.write(prefix);
  CHECK_THROWS_WITH(read_all(IndexedDataset(prefix), 65498),
                    Contains("bad.bin: token 2 is outside the vocabulary: expected 0 to 65497, found 65498"));
  files.code = 3;  // as i16 the same bits are negative
  files.write(prefix);
  CHECK_THROWS_WITH(read_all(IndexedDataset(prefix), 65500), Contains("token 2") && Contains("found -38"));
  files.code = 5;
  files.pointers = {0, 24, 24};
  files.write(prefix);
  write_bytes(prefix + ".bin", little_endian(int64_t{1} << 40) + std::string(32, '\0'));
  CHECK_THROWS_WITH(read_all(IndexedDataset(prefix), 65500), Contains("token 0"));
}

TEST_CASE("a damaged index is refused with place, expected and found") {
  const TempFolder folder;
  const std::string prefix = folder / "x";
  const auto error_of = [&](const HandMade& files) -> std::string {
    files.write(prefix);
    try {
      const IndexedDataset dataset(prefix);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  HandMade files;
  REQUIRE(error_of(files) == "accepted");

  SECTION("magic") {
    files.magic[3] = 'X';
    CHECK_THAT(error_of(files), Contains("x.idx is no Megatron index"));
  }
  SECTION("version") {
    files.version = 2;
    CHECK_THAT(error_of(files), Contains("at byte 9: expected version 1, found 2"));
  }
  SECTION("float tokens") {
    files.code = 7;
    CHECK_THAT(error_of(files), Contains("at byte 17") && Contains("found 7"));
  }
  SECTION("no type") {
    files.code = 0;
    CHECK_THAT(error_of(files), Contains("found 0"));
  }
  SECTION("too many sequences") {
    files.num_sequences = 4;
    CHECK_THAT(error_of(files), Contains("wrong size: expected 114 bytes"));
  }
  SECTION("12 * count overflows") {
    files.num_sequences = ~uint64_t{0} / 12 + 2;
    CHECK_THAT(error_of(files), Contains("at byte 18") && Contains("do not fit in a file of 102 bytes"));
  }
  SECTION("8 * count overflows") {
    files.num_entries = uint64_t{1} << 61;
    CHECK_THAT(error_of(files), Contains("at byte 26") && Contains("do not fit"));
  }
  SECTION("counts whose sum of sizes would wrap to the file's") {
    files.num_sequences = 3 + (uint64_t{1} << 62);  // * 12 wraps to 36
    CHECK_THAT(error_of(files), Contains("at byte 18"));
  }
  SECTION("no document index") {
    files.num_entries = 0;
    CHECK_THAT(error_of(files), Contains("at least 1 document index entry"));
  }
  SECTION("negative length") {
    files.lengths[1] = -1;
    CHECK_THAT(error_of(files), Contains("at byte 38: sequence 1 has a negative length, -1"));
  }
  SECTION("length beyond .bin") {
    files.lengths[2] = 3;
    CHECK_THAT(error_of(files),
               Contains("at byte 42: sequences 0 to 2 need 12 bytes, but") && Contains("x.bin has 10"));
  }
  SECTION("pointer moved") {
    files.pointers[2] = 4;
    CHECK_THAT(error_of(files), Contains("at byte 62: sequence 2 should start at byte 6") && Contains("found 4"));
  }
  SECTION("negative pointer") {
    files.pointers[0] = -2;
    CHECK_THAT(error_of(files), Contains("found -2"));
  }
  SECTION("first document") {
    files.documents[0] = 1;
    CHECK_THAT(error_of(files), Contains("at byte 70: document 0 should start at sequence 0, found 1"));
  }
  SECTION("unsorted documents") {
    files.documents[2] = 0;
    CHECK_THAT(error_of(files), Contains("at byte 86") && Contains("between 1"));
  }
  SECTION("document beyond the sequences") {
    files.documents[3] = 4;
    CHECK_THAT(error_of(files), Contains("and 3 (all sequences)"));
  }
  SECTION("last document") {
    files.documents[3] = 2;
    CHECK_THAT(error_of(files),
               Contains("at byte 94: the last document index entry should be the number of sequences, 3, found 2"));
  }
}

TEST_CASE("a file cut at any length is refused") {
  const TempFolder folder;
  const std::string prefix = folder / "cut";
  const HandMade files;
  const std::string idx = files.idx();
  const std::string bin = files.bin();
  files.write(prefix);
  for (size_t length = 0; length < idx.size(); ++length) {
    write_bytes(prefix + ".idx", idx.substr(0, length));
    CHECK_THROWS_AS(IndexedDataset(prefix), Error);
  }
  write_bytes(prefix + ".idx", idx + "xx");
  CHECK_THROWS_WITH(IndexedDataset(prefix), Contains("wrong size"));
  write_bytes(prefix + ".idx", idx);
  for (size_t length = 0; length < bin.size(); ++length) {
    write_bytes(prefix + ".bin", bin.substr(0, length));
    CHECK_THROWS_WITH(IndexedDataset(prefix), Contains("cut.bin has " + std::to_string(length)));
  }
}

TEST_CASE("a flipped bit of the index is refused or changes only which tokens belong to which document") {
  const TempFolder folder;
  const std::string prefix = folder / "flip";
  HandMade().write(prefix);
  const std::string idx = HandMade().idx();
  int accepted = 0;
  for (size_t bit = 0; bit < idx.size() * 8; ++bit) {
    std::string flipped = idx;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    write_bytes(prefix + ".idx", flipped);
    try {
      const IndexedDataset dataset(prefix);
      ++accepted;
      CHECK(dataset.num_tokens() <= 5);
      CHECK(std::ranges::is_sorted(dataset.document_starts()));
    } catch (const Error&) {
    }
  }
  CHECK(accepted < 12);
}

TEST_CASE("a .bin that shrinks while it is open is an error, not a crash") {
  const TempFolder folder;
  const std::string prefix = folder / "shrink";
  std::vector<int32_t> tokens(100'000);
  std::iota(tokens.begin(), tokens.end(), 0);
  write_documents(prefix, 100'000, {tokens});
  const IndexedDataset dataset(prefix);
  CHECK(read_all(dataset, 100'000) == tokens);
  std::filesystem::resize_file(prefix + ".bin", 200'000);
  CHECK_THROWS_WITH(read_all(dataset, 100'000), Contains("shrink.bin ends too early: expected 400000 bytes at byte 0, "
                                                         "found 200000; it had 400000 bytes when it was opened"));
}

TEST_CASE("missing files and folders are named") {
  const TempFolder folder;
  CHECK_THROWS_WITH(IndexedDataset(folder / "none"), Contains("none.idx: No such file"));
  HandMade().write(folder / "half");
  std::filesystem::remove(folder / "half.bin");
  CHECK_THROWS_WITH(IndexedDataset(folder / "half"), Contains("half.bin: No such file"));
  std::filesystem::create_directory(folder / "half.bin");
  CHECK_THROWS_WITH(IndexedDataset(folder / "half"), Contains("expected a regular file"));
}

TEST_CASE("the writer leaves nothing half-written and replaces only when told") {
  const TempFolder folder;
  const std::string prefix = folder / "w";
  {
    IndexedDatasetWriter writer(prefix, 100, ExistingFiles::kRefuse);
    writer.add_document(std::vector<int32_t>{1, 2});
    CHECK_FALSE(std::filesystem::exists(prefix + ".bin"));
    CHECK_FALSE(std::filesystem::exists(prefix + ".idx"));
  }
  CHECK(folder.num_files() == 0);
  write_documents(prefix, 100, {{1, 2}});
  CHECK(folder.num_files() == 2);
  CHECK_THROWS_WITH(IndexedDatasetWriter(prefix, 100, ExistingFiles::kRefuse), Contains("w.bin exists already"));
  IndexedDatasetWriter writer(prefix, 100, ExistingFiles::kReplace);
  writer.add_document(std::vector<int32_t>{3});
  CHECK(read_all(IndexedDataset(prefix), 100) == std::vector<int32_t>{1, 2});
  writer.finish("a note");
  CHECK(read_all(IndexedDataset(prefix), 100) == std::vector<int32_t>{3});
  CHECK(read_bytes(prefix + ".note.json") == "a note");
  CHECK(folder.num_files() == 3);
  CHECK_THROWS_WITH(IndexedDatasetWriter(folder / "no/such/folder", 100, ExistingFiles::kRefuse),
                    Contains("cannot be created"));
}

TEST_CASE("the writer takes no token outside its vocabulary") {
  const TempFolder folder;
  IndexedDatasetWriter writer(folder / "v", 100, ExistingFiles::kRefuse);
  CHECK_THROWS_WITH(writer.add_document(std::vector<int32_t>{100}), Contains("token 100 of a vocabulary of 100"));
  CHECK_THROWS_AS(writer.add_document(std::vector<int32_t>{-1}), Error);
}
