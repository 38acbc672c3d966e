// data/tokenizer_sentencepiece.cpp: SentencePiece behind our interface, and the detours that make it lossless.
#include "data/tokenizer_sentencepiece.h"

#include <sentencepiece_processor.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <span>

#include "core/base/check.h"
#include "core/base/input_file.h"
#include "data/sentencepiece_model.h"
#include "data/utf8.h"

namespace shoal {
namespace {

constexpr int64_t kMaxModelBytes = int64_t{64} << 20;
constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581

std::string unescape(std::string_view piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    if (piece.substr(at, kEscapedSpace.size()) == kEscapedSpace) {
      text += ' ';
      at += kEscapedSpace.size();
    } else {
      text += piece[at++];
    }
  }
  return text;
}

// The value of a byte piece, "<0x0A>".
int byte_value(std::string_view piece, const std::string& path) {
  unsigned value = 256;
  if (piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with('>')) {
    const auto result = std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
    if (result.ptr != piece.data() + 5) value = 256;
  }
  if (value > 255)
    fail("{} is no sound SentencePiece model: expected a byte piece like <0x0A>, found \"{}\"", path, piece);
  return static_cast<int>(value);
}

std::string fingerprint_of(std::string_view contents) {
  const XXH128_hash_t hash = XXH3_128bits(contents.data(), contents.size());
  return fmt::format("sentencepiece-{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

struct SentencePieceTokenizer::Library {
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& path)
    : library_(std::make_unique<Library>()),
      path_(path),
      contents_(read_small_file(path, "the tokenizer (\"bytes\", a tokenizer.json, or a SentencePiece .model)",
                                kMaxModelBytes)) {
  const SentencePieceModel model = parse_sentencepiece_model(contents_, path);
  const auto status = library_->processor.LoadFromSerializedProto(contents_);
  if (!status.ok()) fail("{} is no sound SentencePiece model: {}", path, status.message());
  SHOAL_CHECK_EQ(library_->processor.GetPieceSize(), static_cast<int>(model.pieces.size()));
  eod_id_ = library_->processor.eos_id();
  if (eod_id_ < 0 || !library_->processor.IsControl(eod_id_)) {
    fail("{} has no piece for the end of a document; expected a control piece as eos (spm_train --eos_id)", path);
  }
  fingerprint_ = fingerprint_of(contents_);
  is_bpe_ = model.is_bpe;
  byte_ids_.assign(256, -1);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& [text, type] = model.pieces[id];
    switch (type) {
      case SentencePieceModel::kUnknown:
      case SentencePieceModel::kControl: bytes_.emplace_back(); break;
      case SentencePieceModel::kByte: {
        const int value = byte_value(text, path);
        byte_ids_[static_cast<size_t>(value)] = static_cast<int32_t>(id);
        bytes_.emplace_back(1, static_cast<char>(value));
        break;
      }
      default: bytes_.push_back(unescape(text)); boundaries_.add_piece(bytes_.back());
    }
  }
  const bool all_bytes = std::ranges::find(byte_ids_, -1) == byte_ids_.end();
  lossless_ = model.byte_fallback && all_bytes && !model.add_dummy_prefix && !model.remove_extra_whitespaces;
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::encode_whole(std::string_view text, std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  std::vector<int> found;
  const auto status = library_->processor.Encode(text, &found);
  if (!status.ok()) fail("{}: SentencePiece could not encode {} bytes: {}", path_, text.size(), status.message());
  ids.insert(ids.end(), found.begin(), found.end());
}

void SentencePieceTokenizer::encode_words(std::string_view text, std::vector<int32_t>& ids) const {
  if (!is_bpe_) return encode_whole(text, ids);
  while (!text.empty()) {
    const std::string_view word = text.substr(0, boundaries_.first_part(text));
    if (!words_.append(word, ids)) {
      const size_t begin = ids.size();
      encode_whole(word, ids);
      words_.insert(word, std::span(ids).subspan(begin));
    }
    text.remove_prefix(word.size());
  }
}

void SentencePieceTokenizer::encode_bytes(std::string_view text, std::vector<int32_t>& ids) const {
  for (const char c : text) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
}

void SentencePieceTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  if (!lossless_) return encode_whole(text, ids);
  while (!text.empty()) {
    std::string_view valid = text.substr(0, valid_utf8_prefix(text));
    text.remove_prefix(valid.size());
    for (size_t at = valid.find(kEscapedSpace); at != std::string_view::npos; at = valid.find(kEscapedSpace)) {
      encode_words(valid.substr(0, at), ids);
      encode_bytes(kEscapedSpace, ids);
      valid.remove_prefix(at + kEscapedSpace.size());
    }
    encode_words(valid, ids);
    encode_bytes(text.substr(0, 1), ids);  // the byte that is not UTF-8, if that is why the prefix ended
    text.remove_prefix(std::min<size_t>(text.size(), 1));
  }
}

std::string_view SentencePieceTokenizer::bytes_of(int32_t id) const {
  if (id < 0 || id >= vocab_size())
    fail("token {} is outside the vocabulary of {}, 0 to {}", id, path_, vocab_size() - 1);
  return bytes_[static_cast<size_t>(id)];
}

}  // namespace shoal
