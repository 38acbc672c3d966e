// data/tokenizer_bpe.cpp: added tokens, normalizer, pre-tokenizer, merges: one text through the stages of the file.
#include "data/tokenizer_bpe.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "core/base/check.h"
#include "core/base/input_file.h"
#include "data/byte_alphabet.h"
#include "data/nfc.h"
#include "data/piece_cache.h"
#include "data/tokenizer_json_reader.h"
#include "data/utf8.h"

namespace shoal {
namespace {

// Names under which published tokenizers end a document (nanochat begins each with its own), best known first.
constexpr std::array<std::string_view, 7> kEndsOfDocument = {
    "<|endoftext|>", "<|end_of_text|>", "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "<|eot|>", "</s>",
    "<eos>",         "<|bos|>"};

std::string fingerprint_of(std::string_view contents) {
  const XXH128_hash_t hash = XXH3_128bits(contents.data(), contents.size());
  return fmt::format("bpe-{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

// What one call of encode needs.
struct BpeTokenizer::Scratch {
  Regex::Scratch regex;
  BpeMerges::Scratch merges;
  PieceCache pieces;
};

BpeTokenizer::~BpeTokenizer() = default;

BpeTokenizer::BpeTokenizer(const std::string& path)
    : BpeTokenizer(read_small_file(path, "the tokenizer (a tokenizer.json of byte-level BPE)", kMaxTokenizerJsonBytes),
                   path) {}

BpeTokenizer::BpeTokenizer(std::string contents, const std::string& path)
    : BpeTokenizer(contents, path, parse_tokenizer_json(contents, path)) {}

BpeTokenizer::BpeTokenizer(std::string contents, const std::string& path, TokenizerJson json)
    : path_(path),
      contents_(std::move(contents)),
      fingerprint_(fingerprint_of(contents_)),
      byte_ids_(json.byte_ids),
      nfc_(json.nfc),
      ignore_merges_(json.ignore_merges),
      pre_tokenizer_(std::move(json.stages)),
      merges_(json.merges, json.byte_ids) {
  lossless_ = !nfc_ && pre_tokenizer_.is_lossless() && std::ranges::find(byte_ids_, -1) == byte_ids_.end();
  set_bytes(json);
  find_eod(json);
  for (const AddedToken& token : json.added_tokens) {
    if (token.normalized) {
      normalized_tokens_.add(token, nfc_ ? to_nfc(token.content) : token.content);
    } else {
      raw_tokens_.add(token, token.content);
    }
  }
  if (!ignore_merges_) return;
  for (int32_t id = 0; id < vocab_size(); ++id) {
    const auto i = static_cast<size_t>(id);
    if (json.in_model[i] && !bytes_[i].empty() && from_byte_characters(json.tokens[i])) {
      whole_pieces_.emplace(bytes_[i], id);
    }
  }
}

void BpeTokenizer::set_bytes(const TokenizerJson& json) {
  bytes_.reserve(json.tokens.size());
  for (size_t id = 0; id < json.tokens.size(); ++id) {
    auto bytes = json.in_model[id] ? from_byte_characters(json.tokens[id]) : std::nullopt;
    bytes_.push_back(bytes ? std::move(*bytes) : json.tokens[id]);
  }
  for (const AddedToken& token : json.added_tokens) {
    std::string& bytes = bytes_[static_cast<size_t>(token.id)];
    if (token.special) {
      bytes.clear();
    } else {
      lossless_ &= !token.lstrip && !token.rstrip && bytes == token.content;
    }
  }
}

void BpeTokenizer::find_eod(const TokenizerJson& json) {
  std::vector<std::string> special;
  for (const AddedToken& token : json.added_tokens) {
    if (token.special) special.push_back(token.content);
  }
  std::string_view eod = special.size() == 1 ? special.front() : std::string_view();
  for (auto name = kEndsOfDocument.rbegin(); name != kEndsOfDocument.rend(); ++name) {
    if (std::ranges::find(special, *name) != special.end()) eod = *name;
  }
  if (eod.empty()) {
    special.resize(std::min<size_t>(special.size(), 8));
    fail("{}: added_tokens: expected a special token that ends a document, one of {}, found {}", path_,
         fmt::join(kEndsOfDocument, " "),
         special.empty() ? std::string("no special token") : fmt::format("{}", fmt::join(special, " ")));
  }
  eod_id_ = std::ranges::find(json.added_tokens, eod, &AddedToken::content)->id;
}

void BpeTokenizer::encode_piece(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (scratch.pieces.append(piece, ids)) return;
  const size_t begin = ids.size();
  const auto whole = whole_pieces_.find(piece);
  if (whole != whole_pieces_.end()) {
    ids.push_back(whole->second);
  } else {
    merges_.encode(piece, scratch.merges, ids);
  }
  scratch.pieces.insert(piece, std::span(ids).subspan(begin));
}

void BpeTokenizer::encode_normalized(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const {
  const auto encode_text = [&](std::string_view part) {
    pre_tokenizer_.split(part, scratch.regex, [&](std::string_view piece) { encode_piece(piece, scratch, ids); });
  };
  if (!normalized_tokens_.finds_any()) return encode_text(text);
  normalized_tokens_.split(text, scratch.regex, encode_text, [&](int32_t id) { ids.push_back(id); });
}

void BpeTokenizer::encode_valid(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const {
  const auto encode_text = [&](std::string_view part) {
    if (nfc_) {
      encode_normalized(to_nfc(part), scratch, ids);
    } else {
      encode_normalized(part, scratch, ids);
    }
  };
  if (!raw_tokens_.finds_any()) return encode_text(text);
  raw_tokens_.split(text, scratch.regex, encode_text, [&](int32_t id) { ids.push_back(id); });
}

std::unique_ptr<BpeTokenizer::Scratch> BpeTokenizer::take_scratch() const {
  const std::lock_guard lock(scratches_mutex_);
  if (scratches_.empty()) return std::make_unique<Scratch>();
  auto scratch = std::move(scratches_.back());
  scratches_.pop_back();
  return scratch;
}

void BpeTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  auto scratch = take_scratch();  // gone with an exception, which is rare
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, valid_utf8_prefix(text));
    if (!valid.empty()) encode_valid(valid, *scratch, ids);
    text.remove_prefix(valid.size());
    if (text.empty()) break;
    const int32_t id = byte_ids_[static_cast<unsigned char>(text.front())];  // why the prefix ended
    if (id >= 0) ids.push_back(id);
    text.remove_prefix(1);
  }
  const std::lock_guard lock(scratches_mutex_);
  scratches_.push_back(std::move(scratch));
}

std::string_view BpeTokenizer::bytes_of(int32_t id) const {
  if (id < 0 || id >= vocab_size())
    fail("token {} is outside the vocabulary of {}, 0 to {}", id, path_, vocab_size() - 1);
  return bytes_[static_cast<size_t>(id)];
}

}  // namespace shoal
