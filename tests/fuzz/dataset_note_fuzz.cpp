// tests/fuzz/dataset_note_fuzz.cpp: PREFIX.note.json.
#include "core/base/check.h"
#include "data/dataset_note.h"
#include "tests/fuzz/json_fuzz.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  const std::string path = scratch_file("tokens.note.json", input);
  const auto note = read_dataset_note(path.substr(0, path.size() - std::string_view(".note.json").size()));
  SHOAL_CHECK(note.has_value() && note->vocab_size >= 1 && note->num_tokens >= 0);
}

std::vector<Seed> seeds() {
  const std::string sound = to_json(DatasetNote{.tokenizer = "bytes",
                                                .fingerprint = "bytes-1",
                                                .vocab_size = 257,
                                                .eod_id = 256,
                                                .num_documents = 3,
                                                .num_tokens = 100,
                                                .num_text_bytes = 97});
  std::vector<Seed> all = json_seeds(sound, "vocab_size");
  for (const char* value : {"0", "-1", "1e300", "4294967297", "\"257\"", "2.5", "true"}) {
    std::string text = sound;
    text.replace(text.find("257"), 3, value);
    all.push_back(text);
  }
  return all;
}

const Registered registered({"dataset_note", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
