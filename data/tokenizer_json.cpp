// data/tokenizer_json.cpp: the tables of a tokenizer.json against each other: dense ids, merges that have tokens.
#include "data/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "core/base/check.h"
#include "data/byte_alphabet.h"
#include "data/tokenizer_json_reader.h"
#include "data/tokenizer_json_stages.h"

namespace shoal {
namespace {

using TokenIds = std::unordered_map<std::string_view, int32_t>;

constexpr size_t kMaxAddedTokenBytes = 4096;
constexpr size_t kMaxAllAddedBytes = size_t{4} << 20;  // they become a trie, which takes fifty times as much
constexpr std::string_view kRefit = "the file is damaged, or was edited by hand";

void parse_model(const JsonValue& model, TokenizerJson& json) {
  expect_only(model, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                      "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.has("type") && model.at("type").string() != "BPE") {
    fail("{}: expected \"BPE\", found {}; Shoal reads byte-level BPE, and SentencePiece from its own .model file",
         model.at("type").full_place(), model.at("type").shown());
  }
  if (model.has("dropout")) {
    const JsonValue dropout = model.at("dropout");
    dropout.expect(dropout.is_number() && dropout.number() == 0, "null (merges are not dropped at random)");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.has(key)) model.at(key).expect(model.at(key).string().empty(), "null (byte-level BPE has none)");
  }
  model.at("fuse_unk").boolean_or(false);
  model.at("byte_fallback").boolean_or(false);
  json.ignore_merges = model.at("ignore_merges").boolean_or(false);
}

std::vector<AddedToken> parse_added_tokens(const JsonValue& list) {
  std::vector<AddedToken> tokens;
  if (list.is_null()) return tokens;
  size_t all_bytes = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonValue item = list.at(i);
    expect_only(item, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken token;
    token.id = static_cast<int32_t>(
        item.at("id").integer(0, kMaxBpeTokens - 1, fmt::format("an integer from 0 to {}", kMaxBpeTokens - 1)));
    token.content = item.at("content").string();
    token.special = item.at("special").boolean_or(false);
    token.normalized = item.at("normalized").boolean_or(!token.special);
    token.single_word = item.at("single_word").boolean_or(false);
    token.lstrip = item.at("lstrip").boolean_or(false);
    token.rstrip = item.at("rstrip").boolean_or(false);
    if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
      fail("{}: expected 1 to {} bytes, found {}", item.at("content").full_place(), kMaxAddedTokenBytes,
           token.content.size());
    }
    all_bytes += token.content.size();
    if (all_bytes > kMaxAllAddedBytes) {
      fail("{}: more than {} bytes in all tokens together", list.full_place(), kMaxAllAddedBytes);
    }
    tokens.push_back(std::move(token));
  }
  std::ranges::stable_sort(tokens, {}, &AddedToken::id);
  return tokens;
}

// Ids of both tables are 0 … n - 1, each once; a token of both has one id.
void place_tokens(const RawTokenizerJson& raw, const TokenIds& model_ids, const std::string& path,
                  TokenizerJson& json) {
  size_t vocab_size = raw.tokens.size();
  for (const AddedToken& token : json.added_tokens) {
    const auto in_model = model_ids.find(token.content);
    if (in_model == model_ids.end()) {
      ++vocab_size;
    } else if (in_model->second != token.id) {
      fail("{}: added_tokens: \"{}\" has id {}, and id {} in model.vocab; {}", path, token.content, token.id,
           in_model->second, kRefit);
    }
  }
  std::vector<char> taken(vocab_size, 0);
  const auto take = [&](int32_t id, std::string_view token, std::string_view table) {
    if (static_cast<size_t>(id) >= vocab_size) {
      fail("{}: {}: \"{}\" has id {}: expected 0 to {}, one for each of {} tokens without a gap; {}", path, table,
           token, id, vocab_size - 1, vocab_size, kRefit);
    }
    if (taken[static_cast<size_t>(id)]++ != 0) {
      fail("{}: {}: \"{}\" has id {}, which \"{}\" has already; {}", path, table, token, id,
           json.tokens[static_cast<size_t>(id)], kRefit);
    }
    json.tokens[static_cast<size_t>(id)] = token;
  };
  json.tokens.resize(vocab_size);
  json.in_model.assign(vocab_size, 0);
  json.num_model_tokens = static_cast<int64_t>(raw.tokens.size());
  for (size_t i = 0; i < raw.tokens.size(); ++i) {
    take(raw.ids[i], raw.tokens[i], "model.vocab");
    json.in_model[static_cast<size_t>(raw.ids[i])] = 1;
  }
  for (const AddedToken& token : json.added_tokens) {
    if (!model_ids.contains(token.content)) take(token.id, token.content, "added_tokens");
  }
}

void find_byte_ids(const TokenIds& model_ids, TokenizerJson& json) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const std::string character = to_byte_characters({&c, 1});
    const auto found = model_ids.find(character);
    json.byte_ids.push_back(found == model_ids.end() ? -1 : found->second);
  }
}

void resolve_merges(const RawTokenizerJson& raw, const TokenIds& model_ids, const std::string& path,
                    TokenizerJson& json) {
  const auto id_of = [&](size_t merge, std::string_view token, std::string_view role) {
    const auto found = model_ids.find(token);
    if (found == model_ids.end()) {
      fail("{}: model.merges[{}]: its {}, \"{}\", is not in model.vocab; {}", path, merge, role, token, kRefit);
    }
    return found->second;
  };
  json.merges.reserve(raw.merges.size() / 2);
  std::string both;
  for (size_t i = 0; i < raw.merges.size() / 2; ++i) {
    const std::string_view left = raw.merges[2 * i];
    const std::string_view right = raw.merges[2 * i + 1];
    both.assign(left).append(right);
    json.merges.push_back({.left = id_of(i, left, "left token"),
                           .right = id_of(i, right, "right token"),
                           .result = id_of(i, both, "result")});
  }
}

// Text must never become a special token: neither a byte nor a merge may be one.
void check_special_tokens(const std::string& path, const TokenizerJson& json) {
  std::vector<char> special(json.tokens.size(), 0);
  for (const AddedToken& token : json.added_tokens) special[static_cast<size_t>(token.id)] |= token.special ? 1 : 0;
  const auto refuse = [&](int32_t id, std::string_view what) {
    fail("{}: added_tokens: \"{}\" (id {}) is special, and also {}: text could write it; {}", path,
         json.tokens[static_cast<size_t>(id)], id, what, kRefit);
  };
  for (const int32_t id : json.byte_ids) {
    if (id >= 0 && special[static_cast<size_t>(id)]) refuse(id, "the token of a byte");
  }
  for (size_t i = 0; i < json.merges.size(); ++i) {
    const int32_t id = json.merges[i].result;
    if (special[static_cast<size_t>(id)]) refuse(id, fmt::format("what model.merges[{}] makes", i));
  }
}

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view contents, const std::string& path) {
  RawTokenizerJson raw = read_tokenizer_json(contents, path);
  const JsonDocument document = JsonDocument::of_tree(std::move(raw.root), path);
  const JsonValue root = document.root();
  if (!root.has("model")) fail("{} is no tokenizer.json: it has no \"model\"", path);
  if (root.has("version")) root.at("version").expect(root.at("version").string() == "1.0", "\"1.0\"");
  TokenizerJson json;
  const JsonValue model = root.at("model");
  parse_model(model, json);
  if (!raw.has_vocab) fail("{}: model.vocab: expected an object of tokens and ids, found none", path);
  if (!raw.has_merges) fail("{}: model.merges: expected an array of pairs of tokens, found none", path);
  parse_normalizer(root.at("normalizer"), json);
  parse_pre_tokenizer(root.at("pre_tokenizer"), json.stages);
  check_decoder(root.at("decoder"));
  json.added_tokens = parse_added_tokens(root.at("added_tokens"));

  TokenIds model_ids;
  model_ids.reserve(raw.tokens.size());
  for (size_t i = 0; i < raw.tokens.size(); ++i) {
    if (!model_ids.emplace(raw.tokens[i], raw.ids[i]).second) {
      fail("{}: model.vocab: the key \"{}\" stands there twice; {}", path, raw.tokens[i], kRefit);
    }
  }
  std::unordered_map<std::string_view, int32_t> contents_seen;
  for (const AddedToken& token : json.added_tokens) {
    if (!contents_seen.emplace(token.content, token.id).second) {
      fail("{}: added_tokens: \"{}\" stands there twice; {}", path, token.content, kRefit);
    }
  }
  place_tokens(raw, model_ids, path, json);
  find_byte_ids(model_ids, json);
  if (model.has("unk_token") && std::ranges::find(json.byte_ids, -1) != json.byte_ids.end()) {
    fail(
        "{}: model.unk_token is {}, and model.vocab lacks some of the 256 bytes; expected all of them, so that no text "
        "is unknown",
        path, model.at("unk_token").shown());
  }
  resolve_merges(raw, model_ids, path, json);
  check_special_tokens(path, json);
  return json;
}

}  // namespace shoal
