// data/dataset_note.cpp: the note as a small JSON object.
#include "data/dataset_note.h"

#include <nlohmann/json.hpp>

#include <filesystem>

#include "core/base/check.h"
#include "core/base/input_file.h"
#include "core/base/json_value.h"

namespace shoal {

std::string note_path(const std::string& prefix) { return prefix + ".note.json"; }

std::string to_json(const DatasetNote& note) {
  return nlohmann::json{{"tokenizer", note.tokenizer},      {"fingerprint", note.fingerprint},
                        {"vocab_size", note.vocab_size},    {"eod_id", note.eod_id},
                        {"documents", note.num_documents},  {"tokens", note.num_tokens},
                        {"text_bytes", note.num_text_bytes}}
             .dump(2) +
         "\n";
}

std::optional<DatasetNote> read_dataset_note(const std::string& prefix) {
  constexpr int64_t kMaxBytes = 64 << 10;
  const std::string path = note_path(prefix);
  if (!std::filesystem::exists(path)) return std::nullopt;
  const std::string text = read_small_file(path, "the note about the tokens", kMaxBytes);
  DatasetNote note;
  constexpr int64_t kMaxVocab = int64_t{1} << 31;
  try {
    const JsonDocument json(text, path);
    const JsonValue fields = json.root();
    note.tokenizer = fields.at("tokenizer").string();
    note.fingerprint = fields.at("fingerprint").string();
    note.vocab_size = fields.at("vocab_size").integer(1, kMaxVocab);
    note.eod_id = fields.at("eod_id").integer(-1, kMaxVocab);
    note.num_documents = fields.at("documents").integer(0, INT64_MAX);
    note.num_tokens = fields.at("tokens").integer(0, INT64_MAX);
    note.num_text_bytes = fields.at("text_bytes").integer(0, INT64_MAX);
  } catch (const Error& error) {
    fail("{} is damaged ({}); run `shoal tokenize` again, or remove it to go without", path, error.what());
  }
  return note;
}

void check_same_tokenizer(const std::string& prefix, const Tokenizer& tokenizer) {
  const auto note = read_dataset_note(prefix);
  if (!note || note->fingerprint == tokenizer.fingerprint()) return;
  fail(
      "{} was made with another tokenizer: expected {} ({} tokens, {}), found {} ({} tokens, {}); tokenize the text "
      "again with the tokenizer of data.tokenizer, or name the one that made it",
      prefix, tokenizer.name(), tokenizer.vocab_size(), tokenizer.fingerprint(), note->tokenizer, note->vocab_size,
      note->fingerprint);
}

}  // namespace shoal
