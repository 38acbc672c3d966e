// core/base/input_file.h: a file read by descriptor at any offset, with every error named.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/check.h"

namespace shoal {

// The device, not the file: EIO of a disk, a network file system that is away. Worth another try, as no file that is
// wrong would be.
class ReadFailed : public Error {
 public:
  using Error::Error;
};

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

  // Reads up to `bytes` from `offset`; fewer only at the end of the file. Throws ReadFailed. Thread-safe.
  int64_t read_some(int64_t offset, void* to, int64_t bytes) const;
  // Reads exactly `bytes`; a shorter file is an Error.
  void read(int64_t offset, void* to, int64_t bytes) const;

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_bytes_ = 0;
};

// The whole of a file, at most `max_bytes`. Throws Error.
std::string read_small_file(const std::string& path, const std::string& what, int64_t max_bytes);

}  // namespace shoal
