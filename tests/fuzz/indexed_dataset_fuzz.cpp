// tests/fuzz/indexed_dataset_fuzz.cpp: Megatron's token files: an u16, so many bytes of .bin, and the .idx.
#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "data/indexed_dataset.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  uint16_t bin_bytes = 0;
  if (input.size() >= sizeof(bin_bytes)) {
    std::memcpy(&bin_bytes, input.data(), sizeof(bin_bytes));
    input.remove_prefix(sizeof(bin_bytes));
  }
  const std::string_view bin = input.substr(0, bin_bytes);
  scratch_file("tokens.bin", bin);
  const std::string path = scratch_file("tokens.idx", input.substr(bin.size()));
  const IndexedDataset dataset(path.substr(0, path.size() - 4));
  SHOAL_CHECK(dataset.num_tokens() <= static_cast<int64_t>(bin.size()));
  SHOAL_CHECK(std::ranges::is_sorted(dataset.document_starts()) && dataset.document_starts().front() >= 0);
  std::vector<int32_t> tokens(static_cast<size_t>(dataset.num_tokens()));
  dataset.read(0, tokens, 1000);
  for (const int32_t token : tokens) SHOAL_CHECK(token >= 0 && token < 1000, "token {}", token);
}

struct Files {
  uint8_t code = 8;
  uint64_t version = 1, num_sequences = 3, num_entries = 4;
  std::vector<int32_t> lengths{3, 0, 2};
  std::vector<int64_t> pointers{0, 6, 6}, documents{0, 1, 2, 3};
  std::string bin = bytes_of<uint16_t>(7) + bytes_of<uint16_t>(8) + bytes_of<uint16_t>(999) + std::string(4, '\0');

  std::string bytes() const {
    std::string all = bytes_of(static_cast<uint16_t>(bin.size())) + bin + std::string("MMIDIDX\0\0", 9) +
                      bytes_of(version) + bytes_of(code) + bytes_of(num_sequences) + bytes_of(num_entries);
    for (const int32_t length : lengths) all += bytes_of(length);
    for (const int64_t pointer : pointers) all += bytes_of(pointer);
    for (const int64_t document : documents) all += bytes_of(document);
    return all;
  }
};

std::vector<Seed> seeds() {
  std::vector<Seed> all{{"", "too short for an index"},
                        {Files().bytes(), kSound},
                        {Files().bytes() + std::string(3, '\0'), kSound},  // with modes
                        {Files().bytes() + "x", "has the wrong size"}};
  const auto add = [&](auto change, const std::string& says) {
    Files files;
    change(files);
    all.emplace_back(files.bytes(), says);
  };
  for (const int code : {0, 6, 7, 9, 255}) {
    add([&](Files& f) { f.code = static_cast<uint8_t>(code); }, "expected a token type");
  }
  for (const int code : {1, 2, 4, 5}) {
    add([&](Files& f) { f.code = static_cast<uint8_t>(code); }, code < 3 ? "should start at byte" : "tokens.");
  }
  add([](Files& f) { f.code = 3; }, kSound);  // as wide
  add([](Files& f) { f.version = 2; }, "expected version 1, found 2");
  add([](Files& f) { f.num_sequences = ~uint64_t{0}; }, "sequences do not fit in a file");
  add([](Files& f) { f.num_sequences = uint64_t{1} << 61; }, "sequences do not fit in a file");
  add([](Files& f) { f.num_entries = ~uint64_t{0}; }, "entries do not fit in a file");
  add([](Files& f) { f.num_entries = 0; }, "at least 1 document index entry");
  add([](Files& f) { f.num_sequences = 0, f.num_entries = 1, f.lengths = {}, f.pointers = {}, f.documents = {0}; },
      kSound);
  add([](Files& f) { f.lengths[1] = -1; }, "a negative length, -1");
  add([](Files& f) { f.lengths[1] = INT32_MAX; }, "sequences 0 to 1 need");
  add([](Files& f) { f.pointers[1] = -6; }, "sequence 1 should start at byte 6");
  add([](Files& f) { f.pointers[2] = INT64_MAX; }, "sequence 2 should start at byte 6");
  add([](Files& f) { f.documents[2] = 0; }, "document index entry 2 should be between 1");
  add([](Files& f) { f.documents[3] = 2; }, "the last document index entry should be the number of sequences, 3");
  add([](Files& f) { f.documents[0] = 1; }, "document 0 should start at sequence 0");
  add([](Files& f) { f.documents[1] = INT64_MIN; }, "document index entry 1 should be between 0");
  add([](Files& f) { f.bin = f.bin.substr(0, 9); }, "sequences 0 to 2 need 10 bytes");
  add([](Files& f) { f.bin[5] = '\x7f'; }, "token 2 is outside the vocabulary: expected 0 to 999");
  return all;
}

const Registered registered({"indexed_dataset", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
