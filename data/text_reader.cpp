// data/text_reader.cpp: lines from a buffer, documents from lines.
#include "data/text_reader.h"

#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "data/jsonl.h"

namespace shoal {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 18;
constexpr size_t kMaxDocumentBytes = size_t{1} << 30;

bool is_jsonl_name(std::string_view path) {
  for (const std::string_view packed : {".gz", ".zst", ".zstd"}) {
    if (path.ends_with(packed)) path.remove_suffix(packed.size());
  }
  return path.ends_with(".jsonl") || path.ends_with(".ndjson");
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

}  // namespace

TextFormat text_format_of(std::string_view name) {
  if (name == "none") return TextFormat::kWholeFile;
  if (name == "blank-lines") return TextFormat::kBlankLines;
  if (name == "lines") return TextFormat::kLines;
  if (name == "jsonl") return TextFormat::kJsonl;
  fail("unknown way to split text into documents: expected none, blank-lines, lines or jsonl, found \"{}\"", name);
}

TextReader::TextReader(std::vector<std::string> paths, TextOptions options)
    : paths_(std::move(paths)), options_(std::move(options)), buffer_(kBufferBytes) {
  if (paths_.empty()) fail("there is no text to read: name at least one file");
}

void TextReader::open_next_file() {
  const std::string& path = paths_[next_path_++];
  source_ = open_byte_source(path);
  format_ = options_.jsonl_by_name && is_jsonl_name(path) ? TextFormat::kJsonl : options_.format;
  line_ = 0;
  begin_ = end_ = 0;
}

bool TextReader::next(std::string& document) {
  for (;;) {
    if (source_ == nullptr) {
      if (next_path_ == paths_.size()) return false;
      open_next_file();
    }
    document.clear();
    if (!next_in_file(document)) {
      source_ = nullptr;
    } else if (!document.empty()) {
      return true;
    }
  }
}

bool TextReader::next_in_file(std::string& document) {
  switch (format_) {
    case TextFormat::kWholeFile: return append_rest(document);
    case TextFormat::kLines: return append_line(document);
    case TextFormat::kJsonl: {
      std::string line;
      if (!append_line(line)) return false;
      if (!is_blank(line)) document = text_of_json_line(line, options_.text_key, paths_[next_path_ - 1], line_);
      return true;
    }
    case TextFormat::kBlankLines: {
      std::string line;
      bool any = false;
      while (append_line(line)) {
        any = true;
        if (is_blank(line)) {
          if (!document.empty()) return true;
        } else {
          if (!document.empty()) document += '\n';
          check_size(document.size() + line.size());
          document += line;
        }
        line.clear();
      }
      return any;
    }
  }
  return false;
}

bool TextReader::refill() {
  begin_ = 0;
  end_ = source_->read(buffer_.data(), buffer_.size());
  bytes_read_ += static_cast<int64_t>(end_);
  return end_ > 0;
}

void TextReader::check_size(size_t bytes) const {
  if (bytes <= kMaxDocumentBytes) return;
  fail("{}:{}: a document of more than {} bytes; split it into smaller ones", paths_[next_path_ - 1], line_ + 1,
       kMaxDocumentBytes);
}

bool TextReader::append(std::string& to, bool one_line) {
  bool any = false;
  while (begin_ < end_ || refill()) {
    any = true;
    const char* from = buffer_.data() + begin_;
    const void* newline = one_line ? std::memchr(from, '\n', end_ - begin_) : nullptr;
    const size_t length =
        newline != nullptr ? static_cast<size_t>(static_cast<const char*>(newline) - from) : end_ - begin_;
    check_size(to.size() + length);
    to.append(from, length);
    begin_ += length;
    if (newline != nullptr) {
      ++begin_;
      break;
    }
  }
  line_ += any ? 1 : 0;
  return any;
}

}  // namespace shoal
