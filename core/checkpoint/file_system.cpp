// core/checkpoint/file_system.cpp: POSIX calls, every result looked at.
#include "core/checkpoint/file_system.h"

#include <dirent.h>
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

bool is_absence(int error) { return error == ENOENT || error == ENOTDIR; }

[[noreturn]] void refuse(const fs::path& path, const char* what, int error) {
  const std::string reason = std::generic_category().message(error);
  if (error == ENOSPC || error == EDQUOT) throw DiskFull(fmt::format("{}: {}: {}", path.string(), what, reason));
  if (is_absence(error)) throw NotThere(fmt::format("{}: {}: {}", path.string(), what, reason));
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

class DiskReader final : public ReadableFile {
 public:
  DiskReader(int fd, fs::path path) : fd_(fd), path_(std::move(path)) {
    struct stat status {};
    const bool seen = ::fstat(fd_, &status) == 0;
    const int error = errno;
    bytes_ = status.st_size;
    if (seen && S_ISREG(status.st_mode)) return;
    ::close(fd_);  // no destructor runs for an object that was never built
    if (!seen) refuse(path_, "cannot be looked at", error);
    fail("{}: is not a regular file", path_.string());
  }
  ~DiskReader() override { ::close(fd_); }

  int64_t bytes() const override { return bytes_; }
  int64_t read_some(int64_t offset, void* to, int64_t bytes) const override {
    int64_t done = 0;
    while (done < bytes) {
      const ssize_t got = ::pread(fd_, static_cast<char*>(to) + done, static_cast<size_t>(bytes - done), offset + done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) refuse(path_, fmt::format("cannot be read at byte {}", offset + done).c_str(), errno);
      if (got == 0) break;
      done += got;
    }
    return done;
  }

 private:
  int fd_;
  fs::path path_;
  int64_t bytes_ = 0;
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

  FileStatus status(const Path& path) override {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
      if (is_absence(errno)) return {};
      refuse(path, "cannot be looked at", errno);
    }
    if (S_ISREG(status.st_mode)) return {FileKind::kFile, status.st_size};
    return {S_ISDIR(status.st_mode) ? FileKind::kFolder : FileKind::kOther, 0};
  }
  std::vector<std::string> list(const Path& directory) override {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(directory.c_str()), ::closedir);
    if (!folder) {
      if (is_absence(errno)) return names;
      refuse(directory, "cannot be listed", errno);
    }
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(folder.get());
      if (entry == nullptr && errno != 0) refuse(directory, "cannot be listed", errno);
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  std::unique_ptr<ReadableFile> open(const Path& path) override {
    // O_NONBLOCK: a pipe nobody writes to must not hang us.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) refuse(path, "cannot be opened", errno);
    return readable_file(fd, path);
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

std::string read_small(FileSystem& files, const fs::path& path, int64_t max_bytes) {
  const auto file = files.open(path);
  if (file->bytes() > max_bytes) {
    fail("{}: has {} bytes, more than the {} a sound one can have", path.string(), file->bytes(), max_bytes);
  }
  std::string text(static_cast<size_t>(file->bytes()), '\0');
  const int64_t got = file->read_some(0, text.data(), file->bytes());
  if (got < file->bytes()) fail("{}: ends at byte {}; it was cut while being read", path.string(), got);
  return text;
}

std::unique_ptr<ReadableFile> readable_file(int fd, fs::path path) {
  return std::make_unique<DiskReader>(fd, std::move(path));
}

void remove_tree(FileSystem& files, const fs::path& directory) {
  if (files.status(directory).kind != FileKind::kFolder) return;  // a link: not ours to empty
  std::vector<std::string> names = files.list(directory);
  // What says that a folder is whole goes first, or nothing goes.
  std::stable_partition(names.begin(), names.end(), [](std::string_view name) { return name == "COMMIT"; });
  std::string mishap;
  for (const std::string& name : names) {
    try {
      files.remove_file(directory / name);
      if (name == "COMMIT") files.sync_directory(directory);
    } catch (const Error& error) {
      if (name == "COMMIT") throw;
      if (mishap.empty()) mishap = error.what();
    }
  }
  if (!mishap.empty()) throw Error(mishap);
  files.remove_directory(directory);
}

}  // namespace shoal
