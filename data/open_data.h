// data/open_data.h: from the `data` message of a config to streams of samples.
#pragma once

#include <cstdint>
#include <memory>

#include "data/packing.h"
#include "data/tokenizer.h"

namespace shoal {

class DataConfig;  // core/config/config.proto

// `vocab_size` is the model's: a token at or above it is an Error when it is read. Throws Error for files that are
// missing or wrong, or made with another tokenizer than `tokenizer` (null: not compared).
std::unique_ptr<TrainingStream> open_training_stream(const DataConfig& config, int64_t vocab_size, uint64_t seed,
                                                     const Tokenizer* tokenizer);
std::unique_ptr<SampleStream> open_validation_stream(const DataConfig& config, int64_t vocab_size,
                                                     const Tokenizer* tokenizer);

}  // namespace shoal
