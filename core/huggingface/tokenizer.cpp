// core/huggingface/tokenizer.cpp: vocabularies and merges as tokenizer.json writes them.
#include "core/huggingface/tokenizer.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <unordered_map>
#include <utility>

#include "data/bpe_training.h"
#include "data/byte_alphabet.h"
#include "data/sentencepiece_model.h"
#include "data/tokenizer_json.h"

namespace shoal {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kSpace = "\u2581";

OrderedJson added_token(int64_t id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// Puts a member behind the others, which have other names: the library would compare it with each of them.
void append(OrderedJson& object, std::string name, int64_t value) {
  object.get_ref<OrderedJson::object_t&>().push_back({std::move(name), value});
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
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    append(vocab, to_byte_characters({&c, 1}), byte);
  }
  append(vocab, end, end_id);
  return tokenizer_json(OrderedJson::array({added_token(end_id, end, true)}), nullptr, byte_level(false),
                        OrderedJson::parse(starting_with(end, end_id)), byte_level(false),
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
    append(vocab, piece.text, static_cast<int64_t>(id));
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
                        OrderedJson::parse(starting_with(model.pieces[static_cast<size_t>(end_id)].text, end_id)),
                        decoder, bpe(std::move(vocab), merges_of(model), true, std::move(unknown)));
}

std::string name_of_added_token(const std::vector<AddedToken>& tokens, int64_t id) {
  for (const AddedToken& token : tokens) {
    if (token.id == id) return token.content;
  }
  return "";
}

}  // namespace

HfTokenizerFiles hf_tokenizer_files(const Tokenizer& tokenizer, int64_t max_positions, const HfSpecialIds& ids) {
  HfTokenizerFiles made;
  const int32_t end_id = tokenizer.eod_id();
  const std::string end = "<|endoftext|>";
  std::function<std::string(int64_t)> name_of = [&](int64_t id) { return id == end_id ? end : ""; };
  bool has_json = true;
  if (tokenizer.file_bytes().empty()) {
    made.files["tokenizer.json"] = bytes_json(end, end_id).dump(2) + "\n";
  } else if (tokenizer.name() == "sentencepiece") {
    const SentencePieceModel model = parse_sentencepiece_model(tokenizer.file_bytes(), "tokenizer.model");
    name_of = [pieces = model.pieces](int64_t id) {
      return id >= 0 && id < std::ssize(pieces) ? pieces[static_cast<size_t>(id)].text : "";
    };
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
    name_of = [tokens = parse_tokenizer_json(tokenizer.file_bytes(), "tokenizer.json").added_tokens](int64_t id) {
      return name_of_added_token(tokens, id);
    };
  }
  made.ids = ids;
  if (!made.ids.bos) made.ids.bos = end_id;
  if (made.ids.eos.empty()) made.ids.eos = {end_id};
  OrderedJson names = OrderedJson::object();
  const auto add = [&](const char* key, int64_t id) {
    if (std::string name = name_of(id); !name.empty()) names[key] = std::move(name);
  };
  add("bos_token", *made.ids.bos);
  add("eos_token", made.ids.eos.front());
  if (made.ids.pad) add("pad_token", *made.ids.pad);
  OrderedJson config = {{"tokenizer_class", has_json ? "PreTrainedTokenizerFast" : "LlamaTokenizer"},
                        {"clean_up_tokenization_spaces", false},
                        {"model_max_length", max_positions}};
  if (!names.empty()) {
    config.update(names);
    made.files["special_tokens_map.json"] = names.dump(2) + "\n";
  }
  made.files["tokenizer_config.json"] = config.dump(2) + "\n";
  return made;
}

}  // namespace shoal
