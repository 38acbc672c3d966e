// core/huggingface/tokenizer.cpp: vocabularies and merges as tokenizer.json writes them.
#include "core/huggingface/tokenizer.h"

#include <algorithm>
#include <unordered_map>

#include "core/base/check.h"
#include "core/base/json_text.h"
#include "core/huggingface/config_keys.h"
#include "data/sentencepiece_model.h"

namespace shoal {
namespace {

constexpr const char* kSpace = "\u2581";

std::string utf8(uint32_t code) {  // below U+0800: all that byte-level alphabets need
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// The character that stands for a byte in a byte-level vocabulary: itself where it is visible, else one from U+0100 on.
std::string character_of(int byte) {
  const auto visible = [](int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
  if (visible(byte)) return utf8(static_cast<uint32_t>(byte));
  uint32_t before = 0;
  for (int b = 0; b < byte; ++b) before += visible(b) ? 0 : 1;
  return utf8(0x100 + before);
}

OrderedJson added_token(int64_t id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// `start` in front of every text.
OrderedJson starting_with(const std::string& start, int64_t id) {
  const OrderedJson special = {{"SpecialToken", {{"id", start}, {"type_id", 0}}}};
  const auto sequence = [](const char* name) { return OrderedJson{{"Sequence", {{"id", name}, {"type_id", 0}}}}; };
  OrderedJson tokens = OrderedJson::object();
  tokens[start] = {{"id", start}, {"ids", OrderedJson::array({id})}, {"tokens", OrderedJson::array({start})}};
  return {{"type", "TemplateProcessing"},
          {"single", OrderedJson::array({special, sequence("A")})},
          {"pair", OrderedJson::array({special, sequence("A"), special, sequence("B")})},
          {"special_tokens", tokens}};
}

OrderedJson bpe(OrderedJson vocab, OrderedJson merges, bool byte_fallback, OrderedJson unknown) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", std::move(unknown)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", byte_fallback},
          {"byte_fallback", byte_fallback},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

OrderedJson tokenizer_json(OrderedJson added, OrderedJson normalizer, OrderedJson pre, OrderedJson post,
                           OrderedJson decoder, OrderedJson model) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", std::move(normalizer)},
          {"pre_tokenizer", std::move(pre)},
          {"post_processor", std::move(post)},
          {"decoder", std::move(decoder)},
          {"model", std::move(model)}};
}

OrderedJson byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

OrderedJson replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

OrderedJson bytes_json(const std::string& end, int32_t end_id) {
  OrderedJson vocab = OrderedJson::object();
  for (int byte = 0; byte < 256; ++byte) vocab[character_of(byte)] = byte;
  vocab[end] = end_id;
  return tokenizer_json(OrderedJson::array({added_token(end_id, end, true)}), nullptr, byte_level(false),
                        starting_with(end, end_id), byte_level(false),
                        bpe(std::move(vocab), OrderedJson::array(), false, nullptr));
}

// SentencePiece merges any two neighbours whose concatenation is a piece, that of the earliest piece first: every way
// to split a piece in two is a merge here, in the order of the pieces.
OrderedJson merges_of(const SentencePieceModel& model) {
  std::unordered_map<std::string_view, size_t> normal;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type == SentencePieceModel::kNormal) normal.emplace(model.pieces[id].text, id);
  }
  OrderedJson merges = OrderedJson::array();
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    if (piece.type != SentencePieceModel::kNormal) continue;
    const std::string_view text = piece.text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const std::string_view left = text.substr(0, cut), right = text.substr(cut);
      if (!normal.contains(left) || !normal.contains(right)) continue;
      merges.push_back(OrderedJson::array({std::string(left), std::string(right)}));
    }
  }
  return merges;
}

OrderedJson sentencepiece_json(const SentencePieceModel& model, int32_t end_id) {
  OrderedJson vocab = OrderedJson::object(), added = OrderedJson::array(), unknown;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    vocab[piece.text] = id;
    if (piece.type == SentencePieceModel::kUnknown) unknown = piece.text;
    const bool special = piece.type == SentencePieceModel::kUnknown || piece.type == SentencePieceModel::kControl;
    if (special || piece.type == SentencePieceModel::kUserDefined) {
      added.push_back(added_token(static_cast<int64_t>(id), piece.text, special));
    }
  }
  const OrderedJson decoder = {
      {"type", "Sequence"},
      {"decoders", OrderedJson::array({replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}})}};
  return tokenizer_json(std::move(added), replace(" ", kSpace), nullptr,
                        starting_with(model.pieces[static_cast<size_t>(end_id)].text, end_id), decoder,
                        bpe(std::move(vocab), merges_of(model), true, std::move(unknown)));
}

// The name of a special token in a tokenizer.json.
std::string token_name(const nlohmann::json& json, int32_t id) {
  const auto added = json.find("added_tokens");
  if (added != json.end() && added->is_array()) {
    for (const nlohmann::json& token : *added) {
      if (token.is_object() && token.value("id", nlohmann::json()) == id && token.contains("content") &&
          token["content"].is_string()) {
        return token["content"];
      }
    }
  }
  return "";
}

}  // namespace

HfTokenizerFiles hf_tokenizer_files(const Tokenizer& tokenizer, int64_t max_positions) {
  HfTokenizerFiles made;
  const int32_t end_id = tokenizer.eod_id();
  std::string end = "<|endoftext|>";
  bool has_json = true;
  if (tokenizer.file_bytes().empty()) {
    made.files["tokenizer.json"] = bytes_json(end, end_id).dump(2) + "\n";
  } else if (tokenizer.name() == "sentencepiece") {
    const SentencePieceModel model = parse_sentencepiece_model(tokenizer.file_bytes(), "tokenizer.model");
    end = model.pieces[static_cast<size_t>(end_id)].text;
    made.files["tokenizer.model"] = std::string(tokenizer.file_bytes());
    has_json = model.is_bpe && model.byte_fallback && !model.add_dummy_prefix && !model.remove_extra_whitespaces;
    if (has_json) {
      made.files["tokenizer.json"] = sentencepiece_json(model, end_id).dump(2) + "\n";
    } else {
      made.notes.push_back(
          "the tokenizer is written as tokenizer.model alone: reading it takes the sentencepiece package");
    }
  } else {
    made.files["tokenizer.json"] = std::string(tokenizer.file_bytes());
    end = token_name(parse_json(tokenizer.file_bytes(), "tokenizer.json"), end_id);
  }
  made.ids = {.bos = end_id, .eos = end_id, .pad = std::nullopt};
  const OrderedJson names = {{"bos_token", end}, {"eos_token", end}};
  OrderedJson config = {{"tokenizer_class", has_json ? "PreTrainedTokenizerFast" : "LlamaTokenizer"},
                        {"clean_up_tokenization_spaces", false},
                        {"model_max_length", max_positions}};
  if (!end.empty()) {
    config.update(names);
    made.files["special_tokens_map.json"] = names.dump(2) + "\n";
  }
  made.files["tokenizer_config.json"] = config.dump(2) + "\n";
  return made;
}

}  // namespace shoal
