// core/checkpoint/stored_tokenizer.cpp: final/ has its own copy; a checkpoint only knows what the file was like.
#include "core/checkpoint/stored_tokenizer.h"

#include <system_error>

#include "core/base/check.h"

namespace shoal {

StoredTokenizer open_stored_tokenizer(const StoredModel& model, const std::string& name) {
  if (!model.tokenizer && name == "bytes") return {.tokenizer = open_tokenizer(name), .note = {}};
  if (!model.tokenizer && name.empty()) return {.tokenizer = nullptr, .note = "the model has no tokenizer"};
  if (!model.tokenizer) {
    return {.tokenizer = nullptr,
            .note = fmt::format("the model's tokenizer (data.tokenizer '{}') is missing: there is no file {}", name,
                                model.tokenizer_place)};
  }
  StoredTokenizer stored{.tokenizer = open_tokenizer(model.tokenizer->string()), .note = {}};
  const std::string found = stored.tokenizer->fingerprint();
  if (!model.tokenizer_fingerprint.empty() && found != model.tokenizer_fingerprint) {
    fail(
        "{}: is another tokenizer than the model of {} was trained with: expected {}, found {}; bring the file back, "
        "or move this one away to go on without a tokenizer",
        model.tokenizer_place, model.config_name, model.tokenizer_fingerprint, found);
  }
  if (model.is_checkpoint && model.tokenizer_fingerprint.empty()) {
    stored.note =
        fmt::format("{} was saved by a version that did not record its tokenizer: {} is taken as it is now, unchecked",
                    model.config_name, model.tokenizer_place);
  }
  return stored;
}

}  // namespace shoal
