// core/checkpoint/atomic_file.cpp: temporary name, full write, fsync, rename, fsync of the folder.
#include "core/checkpoint/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

#include "core/base/check.h"

namespace shoal {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

// A bare name lies in the current folder.
std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace

void write_fully(int fd, const void* data, size_t bytes, const std::filesystem::path& path) {
  const char* p = static_cast<const char*>(data);
  size_t left = bytes;
  while (left > 0) {
    const ssize_t wrote = ::write(fd, p, left);
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
    left -= static_cast<size_t>(wrote);
  }
}

void sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("{}: the folder cannot be opened: {}", directory.string(), reason(errno));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (result != 0) fail("{}: the folder cannot be synced: {}", directory.string(), reason(error));
}

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)),
      temporary_(folder_of(path_) / fmt::format(".tmp-{}-{}", path_.filename().string(), ::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("{}: cannot be created: {}", temporary_.string(), reason(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  SHOAL_CHECK(fd_ >= 0, "{} is committed", path_.string());
  write_fully(fd_, data, bytes, path_);
}

void AtomicFile::commit() {
  SHOAL_CHECK(fd_ >= 0, "{} is committed", path_.string());
  if (::fsync(fd_) != 0) fail("{}: cannot be synced: {}", path_.string(), reason(errno));
  const int closed = ::close(std::exchange(fd_, -1));
  const int close_error = errno;
  const auto give_up = [&](const char* what, int error) {
    ::unlink(temporary_.c_str());
    fail("{}: cannot be {}: {}", path_.string(), what, reason(error));
  };
  if (closed != 0) give_up("closed", close_error);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) give_up("put in place", errno);
  sync_directory(folder_of(path_));
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void copy_file_atomically(const std::filesystem::path& from, const std::filesystem::path& to) {
  const int in = ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) fail("{}: cannot be opened: {}", from.string(), reason(errno));
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{in};
  struct stat status {};
  if (::fstat(in, &status) != 0 || !S_ISREG(status.st_mode)) fail("{}: is not a regular file", from.string());
  AtomicFile out(to);
  std::array<char, 1 << 16> buffer;
  for (;;) {
    const ssize_t got = ::read(in, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("{}: cannot be read: {}", from.string(), reason(errno));
    if (got == 0) break;
    out.write(buffer.data(), static_cast<size_t>(got));
  }
  out.commit();
}

}  // namespace shoal
