// data/dataset_note.h: PREFIX.note.json, what made a pair of token files: so that a model is never trained or judged
// with another tokenizer than its data's. Optional: files of other programs have none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "data/tokenizer.h"

namespace shoal {

struct DatasetNote {
  std::string tokenizer;    // Tokenizer::name()
  std::string fingerprint;  // Tokenizer::fingerprint()
  int64_t vocab_size = 0;
  int64_t eod_id = 0;
  int64_t num_documents = 0;
  int64_t num_tokens = 0;
  int64_t num_text_bytes = 0;  // of the documents, before tokenization
};

std::string note_path(const std::string& prefix);
std::string to_json(const DatasetNote& note);

// nullopt when there is no note. Throws Error for one that cannot be read.
std::optional<DatasetNote> read_dataset_note(const std::string& prefix);

// Throws Error when the note of `prefix` names another tokenizer.
void check_same_tokenizer(const std::string& prefix, const Tokenizer& tokenizer);

}  // namespace shoal
