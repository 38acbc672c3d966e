// core/base/atomic_file.cpp: temporary name, full write, fsync, rename, fsync of the folder.
#include "core/base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "core/base/check.h"

namespace shoal {
namespace {

constexpr int64_t kBufferBytes = int64_t{1} << 20;

std::string reason(int error) { return std::generic_category().message(error); }

// A bare name lies in the current folder.
std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace

void write_fully(int fd, const void* data, int64_t bytes, const std::filesystem::path& path) {
  const char* p = static_cast<const char*>(data);
  int64_t left = bytes;
  while (left > 0) {
    const ssize_t wrote = ::write(fd, p, static_cast<size_t>(left));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int error = wrote == 0 ? EIO : errno;
      if (error == ENOSPC || error == EDQUOT) {
        std::error_code ignored;
        const auto space = std::filesystem::space(folder_of(path), ignored);
        fail(
            "{}: disk full: {} of {} bytes could not be written, {} are available; free space there or choose another "
            "folder",
            path.string(), left, bytes, ignored ? 0 : space.available);
      }
      fail("{}: cannot be written: {}", path.string(), reason(error));
    }
    p += wrote;
    left -= wrote;
  }
}

void sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("{}: the folder cannot be opened: {}", directory.string(), reason(errno));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems refuse to sync a folder; the rename itself has happened.
  if (result != 0 && error != EINVAL) fail("{}: the folder cannot be synced: {}", directory.string(), reason(error));
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  // A name may be taken by what a killed process of the same number left (containers count from 1).
  for (int attempt = 0; fd_ < 0; ++attempt) {
    temporary_ = folder_of(path_) / fmt::format(".tmp-{}-{}-{}", path_.filename().string(), ::getpid(), attempt);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && (errno != EEXIST || attempt == 100)) {
      const int error = errno;
      temporary_.clear();
      fail("{}: cannot be created: {}{}", path_.string(), reason(error),
           error == ENOENT ? fmt::format("; make the folder {} first", folder_of(path_).string()) : "");
    }
  }
}

AtomicFile::~AtomicFile() { abandon(); }

// Leaves nothing behind; nothing can be written or committed any more.
void AtomicFile::abandon() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::write(const void* data, int64_t bytes) {
  SHOAL_CHECK(fd_ >= 0, "{} is closed", path_.string());
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const int64_t part = std::min(bytes, kBufferBytes - static_cast<int64_t>(buffer_.size()));
    buffer_.append(from, static_cast<size_t>(part));
    from += part;
    bytes -= part;
    if (static_cast<int64_t>(buffer_.size()) == kBufferBytes) flush();
  }
}

void AtomicFile::flush() {
  try {
    write_fully(fd_, buffer_.data(), static_cast<int64_t>(buffer_.size()), path_);
  } catch (...) {
    abandon();
    throw;
  }
  buffer_.clear();
}

void AtomicFile::close() {
  SHOAL_CHECK(fd_ >= 0, "{} is closed", path_.string());
  flush();
  const auto give_up = [&](const char* what) {
    const int error = errno;
    abandon();
    fail("{}: cannot be {}: {}", path_.string(), what, reason(error));
  };
  if (::fsync(fd_) != 0) give_up("synced");
  if (::close(std::exchange(fd_, -1)) != 0) give_up("closed");
}

void AtomicFile::commit() {
  if (fd_ >= 0) close();
  SHOAL_CHECK(!temporary_.empty(), "{} is committed, or was given up", path_.string());
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail("{}: cannot be put in place: {}", path_.string(), reason(errno));
  }
  temporary_.clear();
  sync_directory(folder_of(path_));
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void remove_file(const std::filesystem::path& path) {
  if (::unlink(path.c_str()) == 0) {
    sync_directory(folder_of(path));
  } else if (errno != ENOENT) {
    fail("{}: cannot be removed: {}", path.string(), reason(errno));
  }
}

}  // namespace shoal
