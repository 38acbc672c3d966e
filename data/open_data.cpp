// data/open_data.cpp: opens every source a config names and checks that they fit the tokenizer.
#include "data/open_data.h"

#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/config/config.pb.h"
#include "data/dataset_note.h"
#include "data/indexed_dataset.h"
#include "data/llmc_dataset.h"

namespace shoal {
namespace {

std::shared_ptr<const TokenDataset> open_source(const DataSource& source, const DataConfig& config, int64_t vocab_size,
                                                const Tokenizer* tokenizer) {
  if (tokenizer != nullptr) check_same_tokenizer(source.prefix(), *tokenizer);
  auto dataset = open_token_dataset(source.prefix());
  const auto* const shards = dynamic_cast<const LlmcDataset*>(dataset.get());
  if (shards != nullptr && config.mask_documents() && shards->document_token() >= vocab_size) {
    fail(
        "{}: documents in llm.c shards begin with token {}, which a vocabulary of {} does not have; raise model.vocab, "
        "or set data.mask_documents: false",
        source.prefix(), shards->document_token(), vocab_size);
  }
  return dataset;
}

PackingOptions packing_options(const DataConfig& config, int64_t vocab_size) {
  return {.seq_len = config.seq_len(), .vocab_size = vocab_size, .mask_documents = config.mask_documents()};
}

}  // namespace

std::shared_ptr<const TokenDataset> open_token_dataset(const std::string& prefix) {
  if (prefix.ends_with(".bin") || prefix.find_first_of("*?[") != std::string::npos) {
    return std::make_shared<const LlmcDataset>(prefix);
  }
  return std::make_shared<const IndexedDataset>(prefix);
}

std::unique_ptr<TrainingStream> open_training_stream(const DataConfig& config, int64_t vocab_size, uint64_t seed,
                                                     const Tokenizer* tokenizer) {
  std::vector<TrainingSource> sources;
  for (const auto& source : config.train())
    sources.push_back({open_source(source, config, vocab_size, tokenizer), source.weight()});
  return std::make_unique<TrainingStream>(std::move(sources), packing_options(config, vocab_size), config.shuffle(),
                                          seed);
}

std::unique_ptr<SampleStream> open_validation_stream(const DataConfig& config, int64_t vocab_size,
                                                     const Tokenizer* tokenizer) {
  std::vector<std::shared_ptr<const TokenDataset>> sources;
  for (const auto& source : config.validation()) sources.push_back(open_source(source, config, vocab_size, tokenizer));
  return std::make_unique<ValidationStream>(std::move(sources), packing_options(config, vocab_size));
}

}  // namespace shoal
