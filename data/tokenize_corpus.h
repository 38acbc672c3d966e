// data/tokenize_corpus.h: from text files to a pair of token files, on several threads.
#pragma once

#include <cstdint>
#include <functional>

#include "data/indexed_dataset_writer.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace shoal {

struct CorpusCounts {
  int64_t num_documents = 0;
  int64_t num_tokens = 0;  // with one end of document each
  int64_t num_text_bytes = 0;
  int64_t num_lossy_documents = 0;  // those that their tokens do not give back byte for byte
};

// Every document, in the order of `reader`, followed by its end of document; written whatever the number of threads
// just the same. `progress` is called now and then. Does not call writer.finish(). Throws what reading or encoding
// does.
CorpusCounts tokenize_corpus(TextReader& reader, const Tokenizer& tokenizer, IndexedDatasetWriter& writer,
                             int num_threads, const std::function<void(const CorpusCounts&)>& progress);

}  // namespace shoal
