// core/train/generator.h: text from a model, one token at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/config/config.pb.h"
#include "core/train/model_runtime.h"
#include "data/tokenizer.h"

namespace shoal {

// The next token's id from its logits: the likeliest (temperature 0), or drawn from softmax(logits / temperature) over
// the top_k likeliest (0: all) by `uniform` in [0, 1). Ids at or above `vocab` (padding) are never chosen.
int32_t choose_token(const std::vector<float>& logits, int64_t vocab, double temperature, int64_t top_k,
                     double uniform);

// Continues config.prompt (empty: a document's start) by up to max_new_tokens, until the document ends. The model sees
// the last `max_position` tokens. Each token is drawn from (seed, its index), so every rank writes the same text;
// Collective. `on_text` receives the prompt's text, then each token's, as they come. Returns the whole text.
std::string generate_text(ModelRuntime& runtime, const Tokenizer& tokenizer, const GenerateConfig& config,
                          uint64_t seed, const std::function<void(std::string_view)>& on_text);

}  // namespace shoal
