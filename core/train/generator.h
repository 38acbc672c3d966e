// core/train/generator.h: text from a model, one token at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
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

// Continues `ids`, which are not empty, by up to config.max_new_tokens ids below `vocab`, until `end_id` is drawn (-1:
// no id ends it), which is not among them. The model sees the last `max_position` ids. Each id is drawn from (seed, its
// index), so every rank gets the same; Collective. `on_id` receives each as it comes. Returns what was added.
std::vector<int32_t> generate_ids(ModelRuntime& runtime, std::vector<int32_t> ids, int64_t vocab, int32_t end_id,
                                  const GenerateConfig& config, uint64_t seed,
                                  const std::function<void(int32_t)>& on_id);

// [ids.size(), vocab]: what the model says about the token behind each of `ids`, at most max_position of them.
// Collective.
std::vector<float> sequence_logits(ModelRuntime& runtime, std::span<const int32_t> ids);

// Continues config.prompt (empty: a document's start) by up to max_new_tokens, until the document ends, as
// generate_ids does; Collective. `on_text` receives the prompt's text, then each token's, as they come. Returns the
// whole text.
std::string generate_text(ModelRuntime& runtime, const Tokenizer& tokenizer, const GenerateConfig& config,
                          uint64_t seed, const std::function<void(std::string_view)>& on_text);

}  // namespace shoal
