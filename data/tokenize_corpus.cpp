// data/tokenize_corpus.cpp: blocks of documents are encoded by tasks and written in the order they were read.
#include "data/tokenize_corpus.h"

#include <deque>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "core/base/check.h"

namespace shoal {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;

struct EncodedBlock {
  std::vector<int32_t> ids;
  std::vector<size_t> ends;  // of each document, in ids
  CorpusCounts counts;
};

EncodedBlock encode_block(const std::vector<std::string>& documents, const Tokenizer& tokenizer) {
  EncodedBlock block;
  for (const std::string& document : documents) {
    const size_t begin = block.ids.size();
    tokenizer.encode(document, block.ids);
    // Looked at for every document, so that nobody trains on text whose bits per byte would be about something else.
    if (tokenizer.decode(std::span(block.ids).subspan(begin)) != document) ++block.counts.num_lossy_documents;
    block.ids.push_back(tokenizer.eod_id());
    block.ends.push_back(block.ids.size());
    block.counts.num_text_bytes += static_cast<int64_t>(document.size());
  }
  block.counts.num_documents = static_cast<int64_t>(documents.size());
  block.counts.num_tokens = static_cast<int64_t>(block.ids.size());
  return block;
}

// Empty at the end of the text.
std::vector<std::string> read_block(TextReader& reader) {
  std::vector<std::string> documents;
  std::string document;
  for (size_t bytes = 0; bytes < kBlockBytes && reader.next(document); bytes += document.size()) {
    documents.push_back(document);
  }
  return documents;
}

void write_block(const EncodedBlock& block, IndexedDatasetWriter& writer, CorpusCounts& counts) {
  size_t begin = 0;
  for (const size_t end : block.ends) {
    writer.add_document(std::span(block.ids).subspan(begin, end - begin));
    begin = end;
  }
  counts.num_documents += block.counts.num_documents;
  counts.num_tokens += block.counts.num_tokens;
  counts.num_text_bytes += block.counts.num_text_bytes;
  counts.num_lossy_documents += block.counts.num_lossy_documents;
}

}  // namespace

CorpusCounts tokenize_corpus(TextReader& reader, const Tokenizer& tokenizer, IndexedDatasetWriter& writer,
                             int num_threads, const std::function<void(const CorpusCounts&)>& progress) {
  SHOAL_CHECK(num_threads >= 1, "{} threads", num_threads);
  CorpusCounts counts;
  std::deque<std::future<EncodedBlock>> in_flight;
  for (bool more = true; more || !in_flight.empty();) {
    while (more && in_flight.size() < static_cast<size_t>(num_threads)) {
      std::vector<std::string> documents = read_block(reader);
      more = !documents.empty();
      if (more) {
        in_flight.push_back(std::async(std::launch::async, [documents = std::move(documents), &tokenizer] {
          return encode_block(documents, tokenizer);
        }));
      }
    }
    if (in_flight.empty()) break;
    const EncodedBlock block = in_flight.front().get();
    in_flight.pop_front();
    write_block(block, writer, counts);
    progress(counts);
  }
  return counts;
}

}  // namespace shoal
