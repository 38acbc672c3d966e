// core/base/atomic_file.h: a file that appears whole under its name, or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace shoal {

// Written, through a buffer of 1 MiB, under a temporary name beside `path`; commit() syncs it, renames it over `path`
// and syncs the folder. Destroyed without a commit, the temporary file is removed and `path` is as it was. Errors name
// the path and, when the disk is full, the bytes that are left. A failed sync is never retried: the pages it lost would
// be reported clean.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  // Everything is on the disk, under the temporary name still; write() is over. commit() does it when nobody has.
  void close();
  void commit();

 private:
  void flush();
  void abandon();

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once committed, or given up after an error
  int fd_ = -1;
  std::string buffer_;
};

// write(2) until all bytes are out; throws with `path` in the message.
void write_fully(int fd, const void* data, int64_t bytes, const std::filesystem::path& path);

// Makes renames, new names and removals inside the folder survive a power failure.
void sync_directory(const std::filesystem::path& directory);

// A whole text as one AtomicFile.
void write_text_file(const std::filesystem::path& path, std::string_view text);

// Removes a file, if it is there, so that it stays removed after a power failure.
void remove_file(const std::filesystem::path& path);

}  // namespace shoal
