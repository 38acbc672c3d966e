// data/file.h: files by descriptor, with every error named: reading at an offset, and writing that is whole or absent.
#pragma once

#include <cstdint>
#include <string>

namespace shoal {

// A regular file open for reading. Move-only; closes itself.
class InputFile {
 public:
  InputFile() = default;
  // Throws Error for a path that cannot be opened or is no regular file; `what` names its role ("training data").
  InputFile(std::string path, const std::string& what);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::string& path() const { return path_; }
  // Size when it was opened.
  int64_t size_bytes() const { return size_bytes_; }

  // Reads up to `bytes` from `offset`; fewer only at the end of the file. Throws Error. Thread-safe.
  int64_t read_some(int64_t offset, void* to, int64_t bytes) const;
  // Reads exactly `bytes`; a shorter file is an Error.
  void read(int64_t offset, void* to, int64_t bytes) const;

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_bytes_ = 0;
};

// A file that appears under its name only when it is complete: written beside it under a temporary name, synced and
// renamed by commit(). Destroyed without commit(), it leaves nothing.
class OutputFile {
 public:
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Buffered. Throws Error (disk full, …).
  void write(const void* from, int64_t bytes);
  // Flushes and syncs; write() is over. commit() does it when it has not been done.
  void close();
  // Renames to the final name, replacing what was there, and syncs the folder.
  void commit();

 private:
  void flush();

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  std::string buffer_;
};

// Removes a file, if it is there, so that it stays removed after a power failure. Throws Error.
void remove_file(const std::string& path);

// The whole of a file, at most `max_bytes`. Throws Error.
std::string read_small_file(const std::string& path, const std::string& what, int64_t max_bytes);

}  // namespace shoal
