// data/indexed_dataset.cpp: the .idx is read once, in pieces, and believed only where it agrees with itself and .bin.
#include "data/indexed_dataset.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>

#include "core/base/check.h"

namespace shoal {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr int64_t kHeaderBytes = 34;
constexpr int64_t kPieceItems = 1 << 16;

struct TokenType {
  std::string_view name;
  int64_t bytes = 0;
};

std::optional<TokenType> token_type(int code) {
  switch (code) {
    case 1: return TokenType{"uint8", 1};
    case 2: return TokenType{"int8", 1};
    case 3: return TokenType{"int16", 2};
    case 4: return TokenType{"int32", 4};
    case 5: return TokenType{"int64", 8};
    case 8: return TokenType{"uint16", 2};
    default: return std::nullopt;
  }
}

// Little-endian, from any alignment.
template <class T>
T load_at(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// Calls visit(i, value) for an array of `count` T at byte `offset`, holding one piece of it at a time. Adds it to
// `hash`.
template <class T, class F>
void for_each_item(const InputFile& file, int64_t offset, int64_t count, FingerprintHash& hash, F&& visit) {
  std::vector<char> piece(static_cast<size_t>(std::min(count, kPieceItems)) * sizeof(T));
  for (int64_t first = 0; first < count; first += kPieceItems) {
    const int64_t items = std::min(kPieceItems, count - first);
    const int64_t bytes = items * static_cast<int64_t>(sizeof(T));
    file.read(offset + first * static_cast<int64_t>(sizeof(T)), piece.data(), bytes);
    hash.add(piece.data(), bytes);
    for (int64_t i = 0; i < items; ++i) visit(first + i, load_at<T>(piece.data() + static_cast<size_t>(i) * sizeof(T)));
  }
}

struct Index {
  int dtype_code = 0;
  int64_t num_sequences = 0;
  int64_t num_entries = 0;  // of the document index
};

Index read_header(const InputFile& idx, FingerprintHash& hash) {
  if (idx.size_bytes() < kHeaderBytes) {
    fail("{} is too short for an index: expected at least {} bytes, found {}; run `shoal tokenize` again", idx.path(),
         kHeaderBytes, idx.size_bytes());
  }
  std::array<char, kHeaderBytes> header{};
  idx.read(0, header.data(), kHeaderBytes);
  hash.add(header.data(), kHeaderBytes);
  if (std::string_view(header.data(), kMagic.size()) != kMagic) {
    fail("{} is no Megatron index: expected it to start with \"MMIDIDX\" and two zero bytes", idx.path());
  }
  if (const auto version = load_at<uint64_t>(&header[9]); version != 1) {
    fail("{} at byte 9: expected version 1, found {}", idx.path(), version);
  }
  Index index;
  index.dtype_code = static_cast<unsigned char>(header[17]);
  if (!token_type(index.dtype_code)) {
    fail("{} at byte 17: expected a token type of 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64 or 8 uint16, found {}",
         idx.path(), index.dtype_code);
  }
  const auto num_sequences = load_at<uint64_t>(&header[18]);
  const auto num_entries = load_at<uint64_t>(&header[26]);
  // First each count alone, so that the sizes below cannot overflow.
  const auto room = static_cast<uint64_t>(idx.size_bytes() - kHeaderBytes);
  if (num_sequences > room / 12) {
    fail("{} at byte 18: {} sequences do not fit in a file of {} bytes; it is damaged or cut short", idx.path(),
         num_sequences, idx.size_bytes());
  }
  if (num_entries > room / 8) {
    fail("{} at byte 26: {} document index entries do not fit in a file of {} bytes; it is damaged or cut short",
         idx.path(), num_entries, idx.size_bytes());
  }
  if (num_entries == 0) fail("{} at byte 26: expected at least 1 document index entry, found 0", idx.path());
  index.num_sequences = static_cast<int64_t>(num_sequences);
  index.num_entries = static_cast<int64_t>(num_entries);
  const int64_t expected = kHeaderBytes + 12 * index.num_sequences + 8 * index.num_entries;
  if (idx.size_bytes() != expected && idx.size_bytes() != expected + index.num_sequences) {
    fail(
        "{} has the wrong size: expected {} bytes for {} sequences and {} document index entries (or {} with modes), "
        "found {}; it is damaged or cut short",
        idx.path(), expected, index.num_sequences, index.num_entries, expected + index.num_sequences, idx.size_bytes());
  }
  return index;
}

// [num_sequences + 1]: the token at which each sequence starts.
std::vector<int64_t> read_sequence_starts(const InputFile& idx, const Index& index, const InputFile& bin,
                                          FingerprintHash& hash) {
  const int64_t token_bytes = token_type(index.dtype_code)->bytes;
  const int64_t tokens_in_bin = bin.size_bytes() / token_bytes;
  std::vector<int64_t> starts(static_cast<size_t>(index.num_sequences) + 1);
  for_each_item<int32_t>(idx, kHeaderBytes, index.num_sequences, hash, [&](int64_t i, int32_t length) {
    if (length < 0) {
      fail("{} at byte {}: sequence {} has a negative length, {}", idx.path(), kHeaderBytes + 4 * i, i, length);
    }
    const int64_t end = starts[static_cast<size_t>(i)] + length;
    if (end > tokens_in_bin) {
      fail(
          "{} at byte {}: sequences 0 to {} need {} bytes, but {} has {}; one of the two is damaged or cut short, or "
          "they do not belong together",
          idx.path(), kHeaderBytes + 4 * i, i, end * token_bytes, bin.path(), bin.size_bytes());
    }
    starts[static_cast<size_t>(i) + 1] = end;
  });
  const int64_t pointers_at = kHeaderBytes + 4 * index.num_sequences;
  for_each_item<int64_t>(idx, pointers_at, index.num_sequences, hash, [&](int64_t i, int64_t pointer) {
    const int64_t expected = starts[static_cast<size_t>(i)] * token_bytes;
    if (pointer != expected) {
      fail("{} at byte {}: sequence {} should start at byte {} of {}, the end of the one before it, found {}",
           idx.path(), pointers_at + 8 * i, i, expected, bin.path(), pointer);
    }
  });
  return starts;
}

// [num_entries]: the token at which each document starts; the last is the number of tokens.
std::vector<int64_t> read_document_starts(const InputFile& idx, const Index& index,
                                          const std::vector<int64_t>& sequence_starts, FingerprintHash& hash) {
  const int64_t documents_at = kHeaderBytes + 12 * index.num_sequences;
  std::vector<int64_t> starts;
  starts.reserve(static_cast<size_t>(index.num_entries));
  int64_t previous = 0;
  for_each_item<int64_t>(idx, documents_at, index.num_entries, hash, [&](int64_t d, int64_t sequence) {
    const int64_t at = documents_at + 8 * d;
    if (d == 0 && sequence != 0)
      fail("{} at byte {}: document 0 should start at sequence 0, found {}", idx.path(), at, sequence);
    if (sequence < previous || sequence > index.num_sequences) {
      fail(
          "{} at byte {}: document index entry {} should be between {} (the one before it) and {} (all sequences), "
          "found {}",
          idx.path(), at, d, previous, index.num_sequences, sequence);
    }
    previous = sequence;
    starts.push_back(sequence_starts[static_cast<size_t>(sequence)]);
  });
  if (previous != index.num_sequences) {
    fail("{} at byte {}: the last document index entry should be the number of sequences, {}, found {}", idx.path(),
         documents_at + 8 * (index.num_entries - 1), index.num_sequences, previous);
  }
  return starts;
}

// Widens ids to i32; the position of the first that is negative or too large, or -1.
template <class T>
int64_t widen(const char* from, std::span<int32_t> to, int64_t vocab_size, int64_t& bad_id) {
  int64_t bad = -1;
  for (int64_t i = static_cast<int64_t>(to.size()) - 1; i >= 0; --i) {
    const T id = load_at<T>(from + static_cast<size_t>(i) * sizeof(T));
    if (static_cast<int64_t>(id) < 0 || static_cast<int64_t>(id) >= vocab_size) {
      bad = i;
      bad_id = static_cast<int64_t>(id);
    }
    to[static_cast<size_t>(i)] = static_cast<int32_t>(id);
  }
  return bad;
}

int64_t widen(int dtype_code, const char* from, std::span<int32_t> to, int64_t vocab_size, int64_t& bad_id) {
  switch (dtype_code) {
    case 1: return widen<uint8_t>(from, to, vocab_size, bad_id);
    case 2: return widen<int8_t>(from, to, vocab_size, bad_id);
    case 3: return widen<int16_t>(from, to, vocab_size, bad_id);
    case 4: return widen<int32_t>(from, to, vocab_size, bad_id);
    case 5: return widen<int64_t>(from, to, vocab_size, bad_id);
    default: return widen<uint16_t>(from, to, vocab_size, bad_id);
  }
}

}  // namespace

IndexedDataset::IndexedDataset(const std::string& prefix) : prefix_(prefix) {
  const InputFile idx(
      prefix + ".idx",
      "the token index (a data prefix is the path without .idx and .bin, or names llm.c's .bin shards)");
  bin_ = InputFile(prefix + ".bin", "the tokens");
  FingerprintHash hash;
  const Index index = read_header(idx, hash);
  dtype_code_ = index.dtype_code;
  document_starts_ = read_document_starts(idx, index, read_sequence_starts(idx, index, bin_, hash), hash);
  index_hash_ = hash.text();
}

SourceFingerprint IndexedDataset::fingerprint() const {
  FingerprintHash hash;
  hash.add(index_hash_);
  hash.add_sample(bin_, 0, num_tokens() * token_type(dtype_code_)->bytes);
  return {.tokens = num_tokens(), .documents = num_documents(), .shards = std::nullopt, .xxh3_128 = hash.text()};
}

void IndexedDataset::read(int64_t first, std::span<int32_t> tokens, int64_t vocab_size) const {
  const auto count = static_cast<int64_t>(tokens.size());
  SHOAL_CHECK(first >= 0 && count <= num_tokens() - first, "tokens [{}, {} + {}) of {}", first, first, count,
              num_tokens());
  const int64_t token_bytes = token_type(dtype_code_)->bytes;
  std::vector<char> raw(static_cast<size_t>(count * token_bytes));
  bin_.read(first * token_bytes, raw.data(), count * token_bytes);
  int64_t bad_id = 0;
  const int64_t bad = widen(dtype_code_, raw.data(), tokens, vocab_size, bad_id);
  if (bad < 0) return;
  fail(
      "{}: token {} is outside the vocabulary: expected 0 to {}, found {}; the data was made with another tokenizer, "
      "or model.vocab is too small",
      bin_.path(), first + bad, vocab_size - 1, bad_id);
}

std::vector<int32_t> IndexedDataset::document_starts_in(int64_t first, std::span<const int32_t> window) const {
  const int64_t end = std::min(first + static_cast<int64_t>(window.size()), num_tokens());
  std::vector<int32_t> starts;
  for (auto next = std::upper_bound(document_starts_.begin(), document_starts_.end(), first);
       next != document_starts_.end() && *next < end; ++next) {
    const auto start = static_cast<int32_t>(*next - first);
    if (starts.empty() || start != starts.back()) starts.push_back(start);  // else an empty document
  }
  return starts;
}

}  // namespace shoal
