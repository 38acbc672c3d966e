// data/indexed_dataset_writer.h: writes Megatron-LM's token files (layout in indexed_dataset.h), document by document.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/atomic_file.h"

namespace shoal {

enum class ExistingFiles { kRefuse, kReplace };

// One document = one sequence. Ids are u16 if vocab_size < 65500, else i32, as Megatron's builder chooses.
//
// Both files grow under temporary names in the same folder. finish() syncs them and renames .bin, then .idx: an .idx
// under its real name always describes a whole .bin. Without finish() the destructor removes the temporary files.
class IndexedDatasetWriter {
 public:
  // Throws Error when a file cannot be created, or exists under kRefuse.
  IndexedDatasetWriter(std::string prefix, int64_t vocab_size, ExistingFiles existing);
  ~IndexedDatasetWriter();
  IndexedDatasetWriter(const IndexedDatasetWriter&) = delete;
  IndexedDatasetWriter& operator=(const IndexedDatasetWriter&) = delete;

  // The caller ends each document with its end-of-document token (Megatron's --append-eod).
  void add_document(std::span<const int32_t> tokens);
  // `note` becomes PREFIX.note.json (dataset_note.h); empty: none.
  void finish(std::string_view note = {});

  int64_t num_documents() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  void write_index(AtomicFile& idx) const;

  std::string prefix_;
  int64_t vocab_size_;
  ExistingFiles existing_;
  int64_t num_tokens_ = 0;
  std::vector<int32_t> lengths_;
  std::vector<char> narrow_;  // a document's ids in the file's dtype
  std::unique_ptr<AtomicFile> bin_;
};

}  // namespace shoal
