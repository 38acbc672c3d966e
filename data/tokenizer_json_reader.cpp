// data/tokenizer_json_reader.cpp: a SAX handler that builds a small tree and two tables.
#include "data/tokenizer_json_reader.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/base/json_text.h"

namespace shoal {
namespace {

using nlohmann::json;

constexpr int64_t kMaxOtherValues = 1'000'000;

class Reader final : public nlohmann::json_sax<json> {
 public:
  explicit Reader(RawTokenizerJson& raw) : raw_(raw) {}

  std::string problem;

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return value(v); }
  bool number_float(number_float_t v, const string_t&) override { return value(v); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t v) override {
    if (table_ != Table::kVocab) return value(v);
    if (v >= static_cast<uint64_t>(kMaxBpeTokens)) {
      return refuse("model.vocab[{}] is {}: expected an id below {}", quoted(key_), v, kMaxBpeTokens);
    }
    raw_.tokens.add(key_);
    raw_.ids.push_back(static_cast<int32_t>(v));
    return true;
  }

  bool string(string_t& v) override {
    if (table_ != Table::kMerges) return text(v);
    if (in_pair_) {
      if (++pair_size_ > 2) return refuse("model.merges[{}] has more than two tokens", num_merges());
      raw_.merges.add(v);
      return true;
    }
    const size_t space = v.find(' ');
    if (space == std::string::npos || v.find(' ', space + 1) != std::string::npos) {
      return refuse("model.merges[{}] is {}: expected two tokens with one space between them", num_merges(), quoted(v));
    }
    raw_.merges.add(std::string_view(v).substr(0, space));
    raw_.merges.add(std::string_view(v).substr(space + 1));
    return within_limit();
  }

  bool start_object(std::size_t) override {
    if (!deeper()) return false;
    if (table_ != Table::kNone) return refuse("{} holds an object: expected ids and tokens only", table_name());
    if (at_model_key("vocab")) {
      table_ = Table::kVocab;
      return raw_.has_vocab = true;
    }
    return open(json::object());
  }

  bool start_array(std::size_t) override {
    if (!deeper()) return false;
    if (table_ == Table::kMerges && !in_pair_) {
      in_pair_ = true;
      pair_size_ = 0;
      return true;
    }
    if (table_ != Table::kNone) return refuse("{} holds an array where none belongs", table_name());
    if (at_model_key("merges")) {
      table_ = Table::kMerges;
      return raw_.has_merges = true;
    }
    return open(json::array());
  }

  bool key(string_t& name) override {
    key_ = std::move(name);
    if (table_ == Table::kVocab) return within_limit();
    const bool is_table = (at_model_key("vocab") && raw_.has_vocab) || (at_model_key("merges") && raw_.has_merges);
    if (is_table || open_.back()->contains(key_)) return refuse("the key {} stands there twice", quoted(key_));
    return true;
  }

  bool end_object() override {
    --depth_;
    if (table_ == Table::kVocab) return leave_table();
    open_.pop_back();
    return true;
  }

  bool end_array() override {
    --depth_;
    if (!in_pair_ && table_ == Table::kMerges) return leave_table();
    if (in_pair_) {
      in_pair_ = false;
      if (pair_size_ != 2) return refuse("model.merges[{}] has {} tokens: expected two", num_merges(), pair_size_);
      return within_limit();
    }
    open_.pop_back();
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    problem = fmt::format("byte {} is where it stops being JSON ({})", position, json_problem(error.what()));
    return false;
  }

  static std::string quoted(std::string_view text) { return fmt::format("\"{}\"", shown_text(text, 60)); }

 private:
  enum class Table { kNone, kVocab, kMerges };

  template <class... Args>
  bool refuse(fmt::format_string<Args...> format, Args&&... args) {
    problem = fmt::format(format, std::forward<Args>(args)...);
    return false;
  }

  std::string_view table_name() const { return table_ == Table::kVocab ? "model.vocab" : "model.merges"; }
  size_t num_merges() const { return (raw_.merges.size() - (in_pair_ ? std::min<size_t>(pair_size_, 2) : 0)) / 2; }

  // Whether the key just read is this one of the top-level "model".
  bool at_model_key(std::string_view name) const {
    return depth_of_model_ != 0 && open_.size() == depth_of_model_ && open_.back()->is_object() && key_ == name;
  }

  bool deeper() {
    if (++depth_ > kMaxJsonDepth) return refuse("values are nested more than {} deep", kMaxJsonDepth);
    return true;
  }

  bool within_limit() {
    const auto most = static_cast<size_t>(kMaxBpeTokens);
    if (raw_.tokens.size() >= most) return refuse("model.vocab has more than {} tokens", most);
    if (raw_.merges.size() / 2 > most) return refuse("model.merges has more than {} pairs", most);
    return true;
  }

  bool leave_table() {
    table_ = Table::kNone;
    return true;
  }

  bool value(json&& v) {
    if (table_ == Table::kVocab) {
      return refuse("model.vocab[{}] is {}: expected an id, 0 or above", quoted(key_), v.dump());
    }
    if (table_ == Table::kMerges) {
      return refuse("model.merges[{}] is {}: expected two tokens", num_merges(), v.dump());
    }
    return add(std::move(v)) != nullptr;
  }
  bool text(const std::string& v) {
    if (table_ == Table::kVocab) {
      return refuse("model.vocab[{}] is {}: expected an id, 0 or above", quoted(key_), quoted(v));
    }
    return add(json(v)) != nullptr;
  }

  json* add(json&& v) {
    if (++num_values_ > kMaxOtherValues) {
      refuse("more than {} values beside the vocabulary and the merges", kMaxOtherValues);
      return nullptr;
    }
    if (open_.empty()) {
      if (!v.is_object()) {
        refuse("expected a JSON object, found {}", v.type_name());
        return nullptr;
      }
      raw_.root = std::move(v);
      return &raw_.root;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    return &(parent[key_] = std::move(v));
  }

  bool open(json&& empty) {
    const bool is_model = open_.size() == 1 && key_ == "model" && empty.is_object();
    json* const added = add(std::move(empty));
    if (added == nullptr) return false;
    open_.push_back(added);
    if (is_model) depth_of_model_ = open_.size();
    return true;
  }

  RawTokenizerJson& raw_;
  std::vector<json*> open_;  // objects and arrays around what comes next; their addresses stay, only the last one grows
  size_t depth_ = 0;
  size_t depth_of_model_ = 0;
  std::string key_;
  Table table_ = Table::kNone;
  bool in_pair_ = false;
  size_t pair_size_ = 0;
  int64_t num_values_ = 0;
};

}  // namespace

RawTokenizerJson read_tokenizer_json(std::string_view contents, const std::string& path) {
  constexpr std::string_view kWhatToDo = "copy it again, or make one with `shoal tokenizer train --type bpe`";
  // The JSON library would take it for the end.
  if (const size_t nul = contents.find('\0'); nul != std::string_view::npos) {
    fail("{} is no tokenizer.json: byte {} is NUL; {}", path, nul + 1, kWhatToDo);
  }
  RawTokenizerJson raw;
  Reader reader(raw);
  if (!json::sax_parse(contents, &reader)) fail("{} is no tokenizer.json: {}; {}", path, reader.problem, kWhatToDo);
  return raw;
}

}  // namespace shoal
