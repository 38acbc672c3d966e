// data/sentencepiece_model.cpp: a walk over the protobuf wire format, field by field, bounds first.
#include "data/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <unordered_set>

#include "core/base/check.h"
#include "data/utf8.h"

namespace shoal {
namespace {

// One field: a number, and either an integer (varint or fixed width) or bytes.
struct Field {
  uint64_t number = 0;
  int wire_type = 0;
  uint64_t integer = 0;
  std::string_view bytes;
};

constexpr int kVarint = 0;
constexpr int kFixed64 = 1;
constexpr int kBytes = 2;
constexpr int kFixed32 = 5;

class WireReader {
 public:
  WireReader(std::string_view contents, const std::string& path) : rest_(contents), path_(path) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field = {.number = tag >> 3, .wire_type = static_cast<int>(tag & 7), .integer = 0, .bytes = {}};
    switch (field.wire_type) {
      case kVarint: field.integer = varint(); break;
      case kFixed64: std::memcpy(&field.integer, take(8).data(), 8); break;
      case kBytes: field.bytes = take(varint()); break;
      case kFixed32: std::memcpy(&field.integer, take(4).data(), 4); break;
      default: damaged("an unknown wire type");
    }
    if (field.number == 0) damaged("a field numbered 0");
    return true;
  }

  [[noreturn]] void damaged(std::string_view found) const {
    fail("{} is no sound SentencePiece model: found {}; train it again (`shoal tokenizer train`) or copy it again",
         path_, found);
  }

 private:
  std::string_view take(uint64_t bytes) {
    if (bytes > rest_.size()) damaged("a field that is longer than the file");
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    damaged("a number of more than 10 bytes");
  }

  std::string_view rest_;
  const std::string& path_;
};

void expect_type(const WireReader& reader, const Field& field, int wire_type) {
  if (field.wire_type != wire_type) reader.damaged(fmt::format("field {} of an unexpected type", field.number));
}

SentencePieceModel::Piece parse_piece(std::string_view contents, const std::string& path) {
  WireReader reader(contents, path);
  SentencePieceModel::Piece piece;
  for (Field field; reader.next(field);) {
    if (field.number == 1) {
      expect_type(reader, field, kBytes);
      piece.text = field.bytes;
    } else if (field.number == 2) {
      expect_type(reader, field, kFixed32);
      float score = 0;
      std::memcpy(&score, &field.integer, sizeof(score));
      if (!std::isfinite(score)) reader.damaged("a score that is not finite");
    } else if (field.number == 3) {
      expect_type(reader, field, kVarint);
      if (field.integer < 1 || field.integer > 6) reader.damaged(fmt::format("a piece of type {}", field.integer));
      piece.type = static_cast<int>(field.integer);
    }
  }
  if (piece.text.empty()) reader.damaged("an empty piece");
  if (piece.text.find('\0') != std::string::npos || valid_utf8_prefix(piece.text) != piece.text.size()) {
    reader.damaged("a piece that is not UTF-8");
  }
  return piece;
}

void parse_trainer_spec(std::string_view contents, const std::string& path, SentencePieceModel& model) {
  WireReader reader(contents, path);
  for (Field field; reader.next(field);) {
    if (field.number != 3 && field.number != 35) continue;
    expect_type(reader, field, kVarint);
    constexpr uint64_t kBpe = 2;
    if (field.number == 3) model.is_bpe = field.integer == kBpe;
    if (field.number == 35) model.byte_fallback = field.integer != 0;
  }
}

void parse_normalizer_spec(std::string_view contents, const std::string& path, SentencePieceModel& model) {
  WireReader reader(contents, path);
  for (Field field; reader.next(field);) {
    if (field.number == 2 && !field.bytes.empty()) {
      fail(
          "{} normalises text before it encodes it, so that the text cannot be had back; Shoal needs a model with "
          "normalization_rule_name=identity, as `shoal tokenizer train` makes them",
          path);
    }
    if (field.number == 3) model.add_dummy_prefix = field.integer != 0;
    if (field.number == 4) model.remove_extra_whitespaces = field.integer != 0;
    if (field.number == 5 && field.integer == 0) {
      fail("{} was trained with escape_whitespaces=false; Shoal needs a model that writes spaces as U+2581", path);
    }
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view contents, const std::string& path) {
  WireReader reader(contents, path);
  SentencePieceModel model;
  std::unordered_set<std::string> seen;
  std::unordered_set<uint64_t> specs;
  for (Field field; reader.next(field);) {
    if (field.number > 5) continue;  // extensions, which the library ignores too
    expect_type(reader, field, kBytes);
    if (field.number == 1) {
      model.pieces.push_back(parse_piece(field.bytes, path));
      if (!seen.insert(model.pieces.back().text).second) {
        reader.damaged(fmt::format("the piece \"{}\" twice", model.pieces.back().text));
      }
      continue;
    }
    // Two of a kind would be merged, and what we have checked would not be what counts.
    if (!specs.insert(field.number).second) reader.damaged(fmt::format("field {} twice", field.number));
    if (field.number == 2) parse_trainer_spec(field.bytes, path, model);
    if (field.number == 3) parse_normalizer_spec(field.bytes, path, model);
    if (field.number == 5) {
      SentencePieceModel unused;
      parse_normalizer_spec(field.bytes, path, unused);
    }
  }
  if (model.pieces.empty()) reader.damaged("no pieces");
  return model;
}

}  // namespace shoal
