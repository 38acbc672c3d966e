// tests/fuzz/sentencepiece_fuzz.cpp: a SentencePiece model as our own eyes read it, before the library may.
#include "core/base/check.h"
#include "data/sentencepiece_model.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  const SentencePieceModel model = parse_sentencepiece_model(input, "tokenizer.model");
  SHOAL_CHECK(!model.pieces.empty() && model.pieces.size() <= input.size());
  for (const auto& piece : model.pieces) SHOAL_CHECK(!piece.text.empty() && piece.type >= 1 && piece.type <= 6);
}

// Protobuf's wire format: a field of bytes shorter than 128, of an integer below 128, of a float.
std::string field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}
std::string field(int number, int value) { return {static_cast<char>(number << 3), static_cast<char>(value)}; }
std::string score(float value) { return std::string(1, '\x15') + bytes_of(value); }

std::vector<Seed> seeds() {
  const std::string unknown = field(1, field(1, "<unk>") + score(0) + field(3, 2));
  const std::string piece = field(1, field(1, "\xE2\x96\x81the") + score(-3.5F));
  const std::string trainer = field(2, field(3, 2) + "\x98\x02\x01"), normalizer = field(3, field(3, 0) + field(4, 0));
  return {
      {unknown + piece + trainer + normalizer, kSound},
      {unknown + piece + piece, "twice"},
      {unknown + field(1, field(1, "") + score(0)), "an empty piece"},
      {unknown + field(1, field(1, std::string(1, '\0'))), "not UTF-8"},
      {unknown + field(1, field(1, "\xC0\x80")), "not UTF-8"},      // overlong
      {unknown + field(1, field(1, "\xED\xA0\x80")), "not UTF-8"},  // a surrogate
      {unknown + field(1, field(1, "a") + field(3, 7)), "a piece of type 7"},
      {unknown + field(1, field(1, "a") + score(__builtin_nanf(""))), "a score that is not finite"},
      {unknown + trainer + trainer, "field 2 twice"},  // which would be merged
      {unknown + field(3, field(2, "map")), "normalises text"},
      {unknown + field(3, field(5, 0)), "escape_whitespaces=false"},
      {unknown + field(5, field(2, "map")), "normalises text"},
      {unknown + std::string("\x0a\xff\xff\xff\xff\x0f", 6), "longer than the file"},
      {unknown + std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11), "longer than the file"},
      {unknown + std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12), "more than 10 bytes"},
      {unknown + std::string(1, '\x0b'), "an unknown wire type"},
      {unknown + std::string(2, '\0'), "a field numbered 0"},
      {unknown + std::string("\xf9\x1f", 2) + std::string(7, 'x'), "longer than the file"},
      {std::string(), "no pieces"},
      {std::string("not a model")},
      {trainer, "no pieces"},
      {field(1, std::string(100, 'x'))},
  };
}

const Registered registered({"sentencepiece", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
