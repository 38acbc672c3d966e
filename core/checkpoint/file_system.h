// core/checkpoint/file_system.h: the calls by which a checkpoint reaches the disk and comes back, one by one, so that
// tests can stop, fail and lose any of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/check.h"

namespace shoal {

// The disk, or the quota, has no room: what can be waited out, unlike a broken disk.
class DiskFull : public Error {
 public:
  using Error::Error;
};

// There is nothing of this name: what the disk said, not that it said nothing.
class NotThere : public Error {
 public:
  using Error::Error;
};

// A file being written. Closed without a sync, its bytes may be lost with the machine.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  // All of it, or an Error.
  virtual void write(const void* data, int64_t bytes) = 0;
  // Never tried again after it failed: the pages it lost would be reported clean.
  virtual void sync() = 0;
  virtual void close() = 0;
};

// A regular file open for reading.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // When it was opened.
  virtual int64_t bytes() const = 0;
  // Up to `bytes` from `offset`; fewer only at the end of the file.
  virtual int64_t read_some(int64_t offset, void* to, int64_t bytes) const = 0;
};

enum class FileKind { kAbsent, kFile, kFolder, kOther };  // a link is kOther, whatever it leads to

struct FileStatus {
  FileKind kind = FileKind::kAbsent;
  int64_t bytes = 0;  // of a file
};

// Errors name the path and the reason; no room is a DiskFull.
class FileSystem {
 public:
  using Path = std::filesystem::path;
  virtual ~FileSystem() = default;

  // Which must not exist.
  virtual std::unique_ptr<OutputFile> create(const Path& path) = 0;
  // Which must not exist; its parent must.
  virtual void make_directory(const Path& path) = 0;
  // A file replaces a file that is there; a directory wants the name to be free.
  virtual void rename(const Path& from, const Path& to) = 0;
  // Swaps two names at once, so that there is always something under both. false: this file system cannot.
  virtual bool exchange(const Path& a, const Path& b) = 0;
  virtual void remove_file(const Path& path) = 0;
  // Of files only.
  virtual void remove_directory(const Path& path) = 0;
  // Names made, changed and removed in it are on the disk.
  virtual void sync_directory(const Path& path) = 0;
  virtual int64_t free_bytes(const Path& path) = 0;

  // Not through a link. An Error where the disk does not say: then nothing is known, not that nothing is there.
  virtual FileStatus status(const Path& path) = 0;
  // The names in it, sorted; of a folder that is not there none.
  virtual std::vector<std::string> list(const Path& directory) = 0;
  // A regular file, no link. Throws NotThere.
  virtual std::unique_ptr<ReadableFile> open(const Path& path) = 0;
};

// The machine's own.
FileSystem& disk();

// A whole small file: created, written, synced, closed.
void write_synced(FileSystem& files, const FileSystem::Path& path, std::string_view text);

// A whole small file of at most max_bytes.
std::string read_small(FileSystem& files, const FileSystem::Path& path, int64_t max_bytes);
// Takes over `fd`, which is open for reading; `path` is for messages. Throws where it is no regular file.
std::unique_ptr<ReadableFile> readable_file(int fd, FileSystem::Path path);

// A directory of files with what is in it. All that a link leads to stays; so does what cannot be removed, of which the
// first is told by an Error.
void remove_tree(FileSystem& files, const FileSystem::Path& directory);

}  // namespace shoal
