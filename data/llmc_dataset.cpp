// data/llmc_dataset.cpp: shards are opened when they are read, and looked at again each time they are.
#include "data/llmc_dataset.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>

#include "core/base/check.h"

namespace shoal {
namespace {

constexpr int64_t kHeaderBytes = 1024;
constexpr int64_t kHashedBytes = 4096;  // of each shard: the header, and first tokens
constexpr size_t kMaxOpenShards = 64;

struct Kind {
  int32_t magic = 0;
  int32_t version = 0;
  int64_t token_bytes = 0;
  int32_t document_token = 0;
};
constexpr std::array<Kind, 2> kKinds = {{{20240520, 1, 2, 50256}, {20240801, 7, 4, 128000}}};

std::vector<std::string> matching_paths(const std::string& pattern) {
  if (pattern.find_first_of("*?[") == std::string::npos) return {pattern};
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (result != 0 || paths.empty()) {
    fail("{}: no file matches; expected llm.c token shards, like fineweb_train_*.bin", pattern);
  }
  std::ranges::sort(paths);
  return paths;
}

// Throws Error unless the file is a sound shard; returns its number of tokens. Adds it to `hash`.
int64_t check_shard(const InputFile& file, std::optional<Kind>& kind, FingerprintHash& hash) {
  const std::string& path = file.path();
  if (file.size_bytes() < kHeaderBytes) {
    fail("{} is no llm.c token shard: expected a header of {} bytes, found {} in all; it is damaged or cut short", path,
         kHeaderBytes, file.size_bytes());
  }
  std::array<char, kHashedBytes> head{};
  const int64_t head_bytes = std::min(file.size_bytes(), kHashedBytes);
  file.read(0, head.data(), head_bytes);
  std::array<int32_t, 3> header{};
  std::memcpy(header.data(), head.data(), sizeof(header));
  const auto& [magic, version, num_tokens] = header;
  const auto* const found = std::ranges::find(kKinds, magic, &Kind::magic);
  if (found == kKinds.end()) {
    fail(
        "{} at byte 0: expected the magic number 20240520 or 20240801 of an llm.c token shard, found {}; the prefix of "
        "an indexed dataset is written without .bin, and old shards need llm.c's preprocessing again",
        path, magic);
  }
  if (version != found->version) {
    fail("{} at byte 4: expected version {} for the magic number {}, found {}; run llm.c's preprocessing again", path,
         found->version, magic, version);
  }
  const int64_t expected = kHeaderBytes + found->token_bytes * num_tokens;
  if (num_tokens < 0 || file.size_bytes() != expected) {
    fail("{} at byte 8: {} tokens of {} bytes need a file of {} bytes, found {}; it is damaged or cut short", path,
         num_tokens, found->token_bytes, expected, file.size_bytes());
  }
  if (kind && kind->magic != magic) {
    fail("{} at byte 0: expected shards of one kind ({}), found {}; name those of each tokenizer by themselves", path,
         kind->magic, magic);
  }
  kind = *found;
  // Without its folder: shards that were moved together are the same.
  hash.add(fmt::format("{} {} ", std::filesystem::path(path).filename().string(), file.size_bytes()));
  hash.add(head.data(), head_bytes);
  return num_tokens;
}

}  // namespace

LlmcDataset::LlmcDataset(const std::string& pattern) : pattern_(pattern) {
  std::optional<Kind> kind;
  FingerprintHash hash;
  for (std::string& path : matching_paths(pattern)) {
    const InputFile file(path, "the token shard");
    first_tokens_.push_back(first_tokens_.back() + check_shard(file, kind, hash));
    shards_.push_back({.path = std::move(path), .size_bytes = file.size_bytes(), .file = nullptr});
  }
  token_bytes_ = kind->token_bytes;
  document_token_ = kind->document_token;
  hash_ = hash.text();
}

SourceFingerprint LlmcDataset::fingerprint() const {
  return {.tokens = num_tokens(),
          .documents = std::nullopt,
          .shards = static_cast<int64_t>(shards_.size()),
          .xxh3_128 = hash_};
}

std::shared_ptr<const InputFile> LlmcDataset::open_shard(size_t shard) const {
  const std::lock_guard lock(mutex_);
  Shard& wanted = shards_[shard];
  if (wanted.file != nullptr) return wanted.file;
  auto file = std::make_shared<const InputFile>(wanted.path, "the token shard");
  if (file->size_bytes() != wanted.size_bytes) {
    fail("{} changed during the run: expected {} bytes, as it had at the start, found {}", wanted.path,
         wanted.size_bytes, file->size_bytes());
  }
  if (open_order_.size() == kMaxOpenShards) {
    shards_[open_order_.front()].file = nullptr;  // closed once nobody reads it any more
    open_order_.pop_front();
  }
  open_order_.push_back(shard);
  return wanted.file = std::move(file);
}

void LlmcDataset::read_in_shard(size_t shard, int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const {
  const auto file = open_shard(shard);
  std::vector<char> raw(tokens.size() * static_cast<size_t>(token_bytes_));
  file->read(kHeaderBytes + first * token_bytes_, raw.data(), static_cast<int64_t>(raw.size()));
  for (size_t i = 0; i < tokens.size(); ++i) {
    uint32_t id = 0;  // little-endian, like this machine
    std::memcpy(&id, raw.data() + i * static_cast<size_t>(token_bytes_), static_cast<size_t>(token_bytes_));
    if (id >= static_cast<uint64_t>(vocab_size)) {
      fail(
          "{}: token {} is outside the vocabulary: expected 0 to {}, found {}; the data was made with another "
          "tokenizer, or model.vocab is too small",
          file->path(), first + static_cast<int64_t>(i), vocab_size - 1, id);
    }
    tokens[i] = static_cast<int32_t>(id);
  }
}

void LlmcDataset::read(int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const {
  const auto count = static_cast<int64_t>(tokens.size());
  SHOAL_CHECK(first >= 0 && count <= num_tokens() - first, "tokens [{}, {} + {}) of {}", first, first, count,
              num_tokens());
  const auto next = std::upper_bound(first_tokens_.begin(), first_tokens_.end(), first);
  for (auto shard = static_cast<size_t>(next - first_tokens_.begin()) - 1; !tokens.empty(); ++shard) {
    const auto here = std::min<size_t>(tokens.size(), static_cast<size_t>(first_tokens_[shard + 1] - first));
    if (here > 0) read_in_shard(shard, first - first_tokens_[shard], tokens.first(here), vocab_size);
    tokens = tokens.subspan(here);
    first += static_cast<int64_t>(here);
  }
}

std::vector<int32_t> LlmcDataset::document_starts_in(int64_t, std::span<const int32_t> window) const {
  std::vector<int32_t> starts;
  for (size_t i = 1; i < window.size(); ++i) {
    if (window[i] == document_token_) starts.push_back(static_cast<int32_t>(i));
  }
  return starts;
}

}  // namespace shoal
