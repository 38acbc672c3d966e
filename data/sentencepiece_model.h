// data/sentencepiece_model.h: what a SentencePiece .model says, read by our own eyes before the library may see it.
//
// The file is a protobuf message (sentencepiece_model.proto): pieces = 1 {piece = 1, score = 2, type = 3},
// trainer_spec = 2 {model_type = 3, byte_fallback = 35}, normalizer_spec = 3 {precompiled_charsmap = 2,
// add_dummy_prefix = 3, remove_extra_whitespaces = 4, escape_whitespaces = 5}, denormalizer_spec = 5 (as 3).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

struct SentencePieceModel {
  enum Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    int type = kNormal;
  };

  std::vector<Piece> pieces;
  bool is_bpe = false;
  bool byte_fallback = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};

// Throws Error, naming `path`, for contents that are damaged (the library could crash on them) or that Shoal cannot
// use: text normalisation other than identity, spaces that are not escaped.
SentencePieceModel parse_sentencepiece_model(std::string_view contents, const std::string& path);

}  // namespace shoal
