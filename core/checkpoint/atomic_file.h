// core/checkpoint/atomic_file.h: a file that appears whole under its name, or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace shoal {

// Written under a temporary name beside `path`; commit() syncs it, renames it over `path` and syncs the folder.
// Destroyed without a commit, the temporary file is removed and `path` is as it was. Errors name the path and, when the
// disk is full, the bytes that are left. A failed sync is never retried: the pages it lost would be reported clean.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

// write(2) until all bytes are out; throws with `path` in the message.
void write_fully(int fd, const void* data, size_t bytes, const std::filesystem::path& path);

// Makes renames and new names inside the folder survive a power failure.
void sync_directory(const std::filesystem::path& directory);

// A whole text as one AtomicFile.
void write_text_file(const std::filesystem::path& path, std::string_view text);

// Copies a regular file's bytes to an AtomicFile at `to`.
void copy_file_atomically(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace shoal
