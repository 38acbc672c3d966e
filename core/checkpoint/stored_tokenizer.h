// core/checkpoint/stored_tokenizer.h: the tokenizer of a model on disk, which must be the one it was trained with.
#pragma once

#include <memory>
#include <string>

#include "core/checkpoint/open_tensor_source.h"
#include "data/tokenizer.h"

namespace shoal {

struct StoredTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;  // null: there is none
  std::string note;                      // why there is none, or what could not be checked; empty: all is well
};

// `name`: data.tokenizer of the model's config. Throws Error when the file holds another tokenizer than the model was
// trained with.
StoredTokenizer open_stored_tokenizer(const StoredModel& model, const std::string& name);

}  // namespace shoal
