// data/tokenizer_json_stages.h: the stages of a tokenizer.json around its model: what is understood, what is refused.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "core/base/json_value.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer_json.h"

namespace shoal {

// Throws Error for a key outside the list: it may change what the others mean.
void expect_only(const JsonValue& object, std::initializer_list<std::string_view> known);

// All throw Error for a stage that is not supported, by its name.
void parse_normalizer(const JsonValue& normalizer, TokenizerJson& json);
// Appends the stages; the last one of the file must be ByteLevel.
void parse_pre_tokenizer(const JsonValue& pre_tokenizer, std::vector<SplitStage>& stages);
void check_decoder(const JsonValue& decoder);

}  // namespace shoal
