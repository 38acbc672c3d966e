// tests/fuzz/llmc_dataset_fuzz.cpp: llm.c's token shards: an u16, so many bytes of the first, and the second, if any.
#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "data/llmc_dataset.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

constexpr int64_t kVocab = 130'000;

void run(std::string_view input) {
  uint16_t first_bytes = 0;
  if (input.size() >= sizeof(first_bytes)) {
    std::memcpy(&first_bytes, input.data(), sizeof(first_bytes));
    input.remove_prefix(sizeof(first_bytes));
  }
  const std::string_view first = input.substr(0, first_bytes), second = input.substr(first.size());
  const std::filesystem::path path = scratch_file("llmc/0.bin", first), path_of_second = path.parent_path() / "1.bin";
  if (second.empty()) {
    std::filesystem::remove(path_of_second);
  } else {
    scratch_file("llmc/1.bin", second);
  }
  const LlmcDataset dataset(second.empty() ? path : path.parent_path() / "*.bin");
  const int64_t num_tokens = dataset.num_tokens();
  SHOAL_CHECK(num_tokens >= 0 && 2 * num_tokens <= static_cast<int64_t>(input.size()), "{} tokens", num_tokens);
  std::vector<int32_t> tokens(static_cast<size_t>(num_tokens));
  dataset.read(0, tokens, kVocab);
  for (const int32_t token : tokens) SHOAL_CHECK(token >= 0 && token < kVocab, "token {}", token);
  // A part is what it is in the whole.
  std::vector<int32_t> part(tokens.size() / 2);
  const int64_t begin = num_tokens - static_cast<int64_t>(part.size());
  dataset.read(begin, part, kVocab);
  SHOAL_CHECK(std::ranges::equal(part, std::span(tokens).subspan(static_cast<size_t>(begin))));
  for (const int32_t start : dataset.document_starts_in(0, tokens)) {
    SHOAL_CHECK(start > 0 && start < num_tokens && tokens[static_cast<size_t>(start)] == dataset.document_token());
  }
}

template <class Token>
struct Shard {
  int32_t magic = sizeof(Token) == 2 ? 20240520 : 20240801, version = sizeof(Token) == 2 ? 1 : 7;
  std::vector<Token> tokens{static_cast<Token>(sizeof(Token) == 2 ? 50256 : 128000), 7, 8};
  int32_t num_tokens = 3;

  std::string bytes() const {
    std::string all = bytes_of(magic) + bytes_of(version) + bytes_of(num_tokens) + std::string(1024 - 12, '\0');
    for (const Token token : tokens) all += bytes_of(token);
    return all;
  }
};
using Gpt2 = Shard<uint16_t>;
using Llama3 = Shard<uint32_t>;

std::string file(const std::string& first, const std::string& second = {}) {
  return bytes_of(static_cast<uint16_t>(first.size())) + first + second;
}

std::vector<Seed> seeds() {
  const std::string gpt2 = Gpt2{}.bytes(), llama3 = Llama3{}.bytes(),
                    none = Gpt2{.tokens = {}, .num_tokens = 0}.bytes();
  return {
      {file(gpt2), kSound},
      {file(llama3), kSound},
      {file(gpt2, gpt2), kSound},
      {file(none, gpt2), kSound},
      {file(none), kSound},
      {file(Gpt2{.tokens = {1, 65535}, .num_tokens = 2}.bytes()), kSound},
      {file(llama3, gpt2), "expected shards of one kind (20240801), found 20240520"},
      {file(gpt2, "x"), "1.bin is no llm.c token shard"},
      {file(gpt2, std::string(1024, '\0')), "1.bin at byte 0: expected the magic number"},
      {file(Gpt2{.magic = 20240521}.bytes()), "expected the magic number"},
      {file(Gpt2{.magic = 0x08043501}.bytes()), "expected the magic number"},  // the other end first
      {file(Gpt2{.version = 2}.bytes()), "expected version 1 for the magic number 20240520, found 2"},
      {file(Llama3{.version = 1}.bytes()), "expected version 7 for the magic number 20240801, found 1"},
      {file(Gpt2{.num_tokens = 4}.bytes()), "4 tokens of 2 bytes need a file of 1032 bytes, found 1030"},
      {file(Gpt2{.num_tokens = 2}.bytes()), "2 tokens of 2 bytes need a file of 1028 bytes, found 1030"},
      {file(Gpt2{.num_tokens = -1}.bytes()), "-1 tokens"},
      {file(Gpt2{.num_tokens = INT32_MIN}.bytes()), "-2147483648 tokens"},
      {file(Llama3{.num_tokens = INT32_MAX}.bytes()), "2147483647 tokens of 4 bytes need a file of 8589935612 bytes"},
      {file(Gpt2{.tokens = {}, .num_tokens = -512}.bytes().substr(0, 1024)), "-512 tokens"},
      {file(Llama3{.tokens = {130'000}, .num_tokens = 1}.bytes()), "token 0 is outside the vocabulary"},
      {file(Llama3{.tokens = {1, 0xFFFFFFFF}, .num_tokens = 2}.bytes()), "found 4294967295"},
      {file(gpt2.substr(0, 1023)), "expected a header of 1024 bytes, found 1023"},
      {file(gpt2.substr(0, 1029)), "need a file of 1030 bytes, found 1029"},
      {"", "found 0 in all"},
  };
}

const Registered registered({"llmc_dataset", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
