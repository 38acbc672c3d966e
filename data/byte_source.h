// data/byte_source.h: a file's bytes as a stream, unpacked when it is gzip or zstd (told by its first bytes).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace shoal {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills up to `size` bytes and returns their number; 0 only at the end. Throws Error, naming the file, when it cannot
  // be read, or its compressed data is damaged or cut short.
  virtual size_t read(char* to, size_t size) = 0;
};

// Several gzip members or zstd frames in one file follow each other. Throws Error.
std::unique_ptr<ByteSource> open_byte_source(const std::string& path);

}  // namespace shoal
