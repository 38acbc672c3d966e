// data/indexed_dataset_writer.cpp: .bin streams to disk, the lengths wait in memory for the .idx.
#include "data/indexed_dataset_writer.h"

#include <cstring>
#include <filesystem>
#include <limits>
#include <utility>

#include "core/base/check.h"
#include "data/dataset_note.h"

namespace shoal {
namespace {

constexpr int64_t kFirstVocabOf32Bits = 65500;

template <class T>
void narrow(std::span<const int32_t> tokens, int64_t vocab_size, std::vector<char>& to) {
  to.resize(tokens.size() * sizeof(T));
  char* out = to.data();
  for (const int32_t token : tokens) {
    SHOAL_CHECK(token >= 0 && token < vocab_size, "token {} of a vocabulary of {}", token, vocab_size);
    const T value = static_cast<T>(token);
    std::memcpy(out, &value, sizeof(T));
    out += sizeof(T);
  }
}

}  // namespace

IndexedDatasetWriter::IndexedDatasetWriter(std::string prefix, int64_t vocab_size, ExistingFiles existing)
    : prefix_(std::move(prefix)), vocab_size_(vocab_size), existing_(existing) {
  for (const char* extension : {".bin", ".idx"}) {
    if (existing == ExistingFiles::kRefuse && std::filesystem::exists(prefix_ + extension)) {
      fail("{}{} exists already; choose another name, or say that it may be replaced (--force)", prefix_, extension);
    }
  }
  bin_ = std::make_unique<AtomicFile>(prefix_ + ".bin");
}

IndexedDatasetWriter::~IndexedDatasetWriter() = default;

void IndexedDatasetWriter::add_document(std::span<const int32_t> tokens) {
  if (tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    fail("document {} of {} has {} tokens, more than the format can hold ({}); split it", lengths_.size(), prefix_,
         tokens.size(), std::numeric_limits<int32_t>::max());
  }
  if (vocab_size_ < kFirstVocabOf32Bits) {
    narrow<uint16_t>(tokens, vocab_size_, narrow_);
  } else {
    narrow<int32_t>(tokens, vocab_size_, narrow_);
  }
  bin_->write(narrow_.data(), static_cast<int64_t>(narrow_.size()));
  lengths_.push_back(static_cast<int32_t>(tokens.size()));
  num_tokens_ += static_cast<int64_t>(tokens.size());
}

void IndexedDatasetWriter::write_index(AtomicFile& idx) const {
  const int64_t token_bytes = vocab_size_ < kFirstVocabOf32Bits ? 2 : 4;
  const auto put = [&](auto value) { idx.write(&value, sizeof(value)); };
  idx.write("MMIDIDX\0\0", 9);
  put(uint64_t{1});
  put(static_cast<uint8_t>(token_bytes == 2 ? 8 : 4));
  put(static_cast<uint64_t>(lengths_.size()));
  put(static_cast<uint64_t>(lengths_.size() + 1));
  for (const int32_t length : lengths_) put(length);
  int64_t pointer = 0;
  for (const int32_t length : lengths_) {
    put(pointer);
    pointer += length * token_bytes;
  }
  for (int64_t d = 0; d <= num_documents(); ++d) put(d);
  idx.close();
}

void IndexedDatasetWriter::finish(std::string_view note) {
  SHOAL_CHECK(bin_ != nullptr, "{} is finished", prefix_);
  bin_->close();
  AtomicFile idx(prefix_ + ".idx");
  write_index(idx);
  // An .idx that is replaced goes first: it must never stand beside the new .bin.
  if (existing_ == ExistingFiles::kReplace) remove_file(prefix_ + ".idx");
  remove_file(note_path(prefix_));
  if (!note.empty()) {
    AtomicFile file(note_path(prefix_));
    file.write(note);
    file.commit();
  }
  bin_->commit();
  idx.commit();
  bin_.reset();
}

}  // namespace shoal
