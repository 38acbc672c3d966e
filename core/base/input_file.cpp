// core/base/input_file.cpp: POSIX reads; every call's failure becomes a sentence with the path and the system's reason.
#include "core/base/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/check.h"

namespace shoal {

InputFile::InputFile(std::string path, const std::string& what) : path_(std::move(path)) {
  // O_NONBLOCK: opening a pipe nobody writes to would wait for ever before fstat could tell that it is one.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) fail("cannot open {} {}: {}", what, path_, std::strerror(errno));
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(std::exchange(fd_, -1));
    fail("cannot read {} {}: expected a regular file, found a folder, a pipe or a device", what, path_);
  }
  size_bytes_ = info.st_size;
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_bytes_(other.size_bytes_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

int64_t InputFile::read_some(int64_t offset, void* to, int64_t bytes) const {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(fd_, static_cast<char*>(to) + done, static_cast<size_t>(bytes - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw ReadFailed(fmt::format("cannot read {} at byte {}: {}", path_, offset + done, std::strerror(errno)));
    }
    if (got == 0) break;
    done += got;
  }
  return done;
}

void InputFile::read(int64_t offset, void* to, int64_t bytes) const {
  const int64_t got = read_some(offset, to, bytes);
  if (got < bytes) {
    fail("{} ends too early: expected {} bytes at byte {}, found {}; it had {} bytes when it was opened", path_, bytes,
         offset, got, size_bytes_);
  }
}

std::string read_small_file(const std::string& path, const std::string& what, int64_t max_bytes) {
  const InputFile file(path, what);
  if (file.size_bytes() > max_bytes) {
    fail("{} {} has {} bytes, more than the {} a sound one can have", what, path, file.size_bytes(), max_bytes);
  }
  std::string contents(static_cast<size_t>(file.size_bytes()), '\0');
  file.read(0, contents.data(), file.size_bytes());
  return contents;
}

}  // namespace shoal
