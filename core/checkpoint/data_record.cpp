// core/checkpoint/data_record.cpp: there and back; what is absent stays so.
#include "core/checkpoint/data_record.h"

#include <utility>

namespace shoal {

DataRecord to_record(const DataFingerprint& data) {
  DataRecord record;
  if (!data.tokenizer.empty()) record.set_tokenizer(data.tokenizer);
  for (const SourceFingerprint& source : data.train) {
    SourceRecord& kept = *record.add_train();
    kept.set_tokens(source.tokens);
    if (source.documents) kept.set_documents(*source.documents);
    if (source.shards) kept.set_shards(*source.shards);
    kept.set_xxh3_128(source.xxh3_128);
  }
  return record;
}

DataFingerprint from_record(const DataRecord& record) {
  DataFingerprint data{.train = {}, .tokenizer = record.tokenizer()};
  for (const SourceRecord& kept : record.train()) {
    SourceFingerprint source{
        .tokens = kept.tokens(), .documents = std::nullopt, .shards = std::nullopt, .xxh3_128 = kept.xxh3_128()};
    if (kept.has_documents()) source.documents = kept.documents();
    if (kept.has_shards()) source.shards = kept.shards();
    data.train.push_back(std::move(source));
  }
  return data;
}

}  // namespace shoal
