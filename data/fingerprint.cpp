// data/fingerprint.cpp: sources side by side, and a hash over what stands for them.
#include "data/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/input_file.h"
#include "core/config/compare.h"

namespace shoal {

namespace {

constexpr int64_t kPieceBytes = 4096;
constexpr int64_t kPieces = 16;

bool is_same(const SourceFingerprint& a, const SourceFingerprint& b) {
  return a.tokens == b.tokens && a.documents == b.documents && a.shards == b.shards && a.xxh3_128 == b.xxh3_128;
}

}  // namespace

std::string describe(const SourceFingerprint& source) {
  std::string text;
  if (source.shards) text += fmt::format("{} shard(s), ", *source.shards);
  if (source.documents) text += fmt::format("{} documents, ", *source.documents);
  return text + fmt::format("{} tokens, xxh3_128 {}", source.tokens, source.xxh3_128);
}

std::vector<ConfigChange> compare_data(const DataFingerprint& was, const DataFingerprint& is,
                                       const std::vector<std::string>& prefixes) {
  std::vector<ConfigChange> changes;
  for (size_t i = 0; i < std::min(was.train.size(), is.train.size()); ++i) {
    if (is_same(was.train[i], is.train[i])) continue;
    const std::string name = i < prefixes.size() ? fmt::format(" ({})", prefixes[i]) : "";
    changes.push_back({.path = fmt::format("data.train[{}]", i),
                       .was = describe(was.train[i]),
                       .is = describe(is.train[i]) + name,
                       .matters = true});
  }
  if (!was.tokenizer.empty() && !is.tokenizer.empty() && was.tokenizer != is.tokenizer) {
    changes.push_back({.path = "data.tokenizer", .was = was.tokenizer, .is = is.tokenizer, .matters = true});
  }
  return changes;
}

void FingerprintHash::add_sample(const InputFile& file, int64_t begin, int64_t bytes) {
  const int64_t pieces = bytes <= kPieces * kPieceBytes ? 1 : kPieces;
  std::vector<char> piece(static_cast<size_t>(pieces == 1 ? bytes : kPieceBytes));
  const auto piece_bytes = static_cast<int64_t>(piece.size());
  const int64_t stride = pieces == 1 ? 0 : (bytes - piece_bytes) / (pieces - 1);
  for (int64_t i = 0; i < pieces; ++i) {
    file.read(begin + (i + 1 == pieces ? bytes - piece_bytes : i * stride), piece.data(), piece_bytes);
    add(piece.data(), piece_bytes);
  }
}

}  // namespace shoal
