// core/checkpoint/file_system.cpp: POSIX calls, every result looked at.
#include "core/checkpoint/file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/atomic_file.h"

namespace shoal {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const char* what, int error) {
  const std::string reason = std::generic_category().message(error);
  if (error == ENOSPC || error == EDQUOT) throw DiskFull(fmt::format("{}: {}: {}", path.string(), what, reason));
  fail("{}: {}: {}", path.string(), what, reason);
}

class DiskFile final : public OutputFile {
 public:
  explicit DiskFile(fs::path path) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd_ < 0) refuse(path_, "cannot be created", errno);
  }
  ~DiskFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  void write(const void* data, int64_t bytes) override {
    // In pieces: one call moves 2 GiB at most, and a full disk shows early.
    constexpr int64_t kPiece = int64_t{8} << 20;
    const char* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t wrote = ::write(fd_, from, static_cast<size_t>(std::min(bytes, kPiece)));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) refuse(path_, "cannot be written", wrote == 0 ? EIO : errno);
      from += wrote;
      bytes -= wrote;
    }
  }
  void sync() override {
    if (::fsync(fd_) != 0) refuse(path_, "cannot be synced", errno);
  }
  void close() override {
    if (::close(std::exchange(fd_, -1)) != 0) refuse(path_, "cannot be closed", errno);
  }

 private:
  fs::path path_;
  int fd_ = -1;
};

class Disk final : public FileSystem {
 public:
  std::unique_ptr<OutputFile> create(const Path& path) override { return std::make_unique<DiskFile>(path); }
  void make_directory(const Path& path) override {
    if (::mkdir(path.c_str(), 0777) != 0) refuse(path, "the folder cannot be made", errno);
  }
  void rename(const Path& from, const Path& to) override {
    if (std::rename(from.c_str(), to.c_str()) != 0) {
      refuse(from, fmt::format("cannot be renamed to {}", to.string()).c_str(), errno);
    }
  }
  bool exchange(const Path& a, const Path& b) override {
    if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
    if (errno == ENOSYS || errno == EINVAL || errno == ENOTSUP) return false;
    refuse(a, fmt::format("cannot change places with {}", b.string()).c_str(), errno);
  }
  void remove_file(const Path& path) override {
    if (::unlink(path.c_str()) != 0) refuse(path, "cannot be removed", errno);
  }
  void remove_directory(const Path& path) override {
    if (::rmdir(path.c_str()) != 0) refuse(path, "the folder cannot be removed", errno);
  }
  void sync_directory(const Path& path) override { shoal::sync_directory(path); }
  int64_t free_bytes(const Path& path) override {
    struct statvfs space {};
    if (::statvfs(path.c_str(), &space) != 0) refuse(path, "its free space cannot be read", errno);
    return static_cast<int64_t>(space.f_bavail) * static_cast<int64_t>(space.f_frsize);
  }
};

}  // namespace

FileSystem& disk() {
  static Disk instance;
  return instance;
}

void write_synced(FileSystem& files, const fs::path& path, std::string_view text) {
  const auto file = files.create(path);
  file->write(text.data(), static_cast<int64_t>(text.size()));
  file->sync();
  file->close();
}

void remove_tree(FileSystem& files, const fs::path& directory) {
  std::error_code ignored;
  if (!fs::is_directory(fs::symlink_status(directory, ignored))) return;  // a link: not ours to empty
  std::vector<fs::path> names;
  for (fs::directory_iterator entry(directory, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    names.push_back(entry->path());
  }
  std::sort(names.begin(), names.end());
  // What says that a folder is whole goes first.
  std::stable_partition(names.begin(), names.end(), [](const fs::path& name) { return name.filename() == "COMMIT"; });
  try {
    for (const fs::path& name : names) {
      files.remove_file(name);
      if (name.filename() == "COMMIT") files.sync_directory(directory);
    }
    files.remove_directory(directory);
  } catch (const Error&) {  // tried again at the next start
  }
}

}  // namespace shoal
