// data/text_reader.h: documents, one after the other, from text and JSONL files, gzip and zstd too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_source.h"

namespace shoal {

enum class TextFormat {
  kWholeFile,   // a file is a document
  kBlankLines,  // documents are separated by lines of nothing but spaces, tabs and "\r"
  kLines,       // a line is a document
  kJsonl,       // a line is a JSON object, the document its `text_key`
};

// "none", "blank-lines", "lines", "jsonl". Throws Error for another name.
TextFormat text_format_of(std::string_view name);

struct TextOptions {
  TextFormat format = TextFormat::kWholeFile;
  std::string text_key = "text";  // JSONL: the member that holds the text
  // JSONL is told by its name (.jsonl, .jsonl.gz, .jsonl.zst, .ndjson…) whatever `format` says.
  bool jsonl_by_name = true;
};

// Bytes of a document are as in the file (text may be any bytes), without its separator. Empty documents are left out.
// Memory: the longest document; one of more than 1 GiB is an Error.
class TextReader {
 public:
  TextReader(std::vector<std::string> paths, TextOptions options);

  // Overwrites `document` and returns true, or false at the end of the last file. Throws Error naming file and line: a
  // file that cannot be read or unpacked, JSON that is not an object with the key and a string, or not UTF-8.
  bool next(std::string& document);

  // Unpacked bytes read so far, over all files.
  int64_t bytes_read() const { return bytes_read_; }

 private:
  void open_next_file();
  bool next_in_file(std::string& document);
  // Appends the next line without its "\n", or all the rest; false at the end of the file.
  bool append_line(std::string& to) { return append(to, true); }
  bool append_rest(std::string& to) { return append(to, false); }
  bool append(std::string& to, bool one_line);
  void check_size(size_t bytes) const;  // of a document
  bool refill();

  std::vector<std::string> paths_;
  TextOptions options_;
  size_t next_path_ = 0;
  std::unique_ptr<ByteSource> source_;
  TextFormat format_ = TextFormat::kWholeFile;  // of the open file
  int64_t line_ = 0;                            // number of the line last read, from 1
  int64_t bytes_read_ = 0;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace shoal
