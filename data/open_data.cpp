// data/open_data.cpp: opens every source a config names and checks that they fit the tokenizer.
#include "data/open_data.h"

#include <utility>
#include <vector>

#include "core/config/config.pb.h"
#include "data/dataset_note.h"
#include "data/packing.h"

namespace shoal {
namespace {

std::shared_ptr<const IndexedDataset> open_source(const DataSource& source, const Tokenizer* tokenizer) {
  if (tokenizer != nullptr) check_same_tokenizer(source.prefix(), *tokenizer);
  return std::make_shared<const IndexedDataset>(source.prefix());
}

PackingOptions packing_options(const DataConfig& config, int64_t vocab_size) {
  return {.seq_len = config.seq_len(), .vocab_size = vocab_size, .mask_documents = config.mask_documents()};
}

}  // namespace

std::unique_ptr<SampleStream> open_training_stream(const DataConfig& config, int64_t vocab_size, uint64_t seed,
                                                   const Tokenizer* tokenizer) {
  std::vector<TrainingSource> sources;
  for (const auto& source : config.train()) sources.push_back({open_source(source, tokenizer), source.weight()});
  return std::make_unique<TrainingStream>(std::move(sources), packing_options(config, vocab_size), config.shuffle(),
                                          seed);
}

std::unique_ptr<SampleStream> open_validation_stream(const DataConfig& config, int64_t vocab_size,
                                                     const Tokenizer* tokenizer) {
  std::vector<std::shared_ptr<const IndexedDataset>> sources;
  for (const auto& source : config.validation()) sources.push_back(open_source(source, tokenizer));
  return std::make_unique<ValidationStream>(std::move(sources), packing_options(config, vocab_size));
}

}  // namespace shoal
