// data/file.cpp: POSIX files; every call's failure becomes a sentence with the path and the system's reason.
#include "data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/base/check.h"

namespace shoal {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

void sync_folder_of(const std::string& path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("cannot open the folder {} to sync it: {}", folder.string(), std::strerror(errno));
  const int rc = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems refuse to sync a folder; the rename itself has happened.
  if (rc != 0 && error != EINVAL) fail("cannot sync the folder {}: {}", folder.string(), std::strerror(error));
}

}  // namespace

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
    if (got < 0) fail("cannot read {} at byte {}: {}", path_, offset + done, std::strerror(errno));
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

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp-{}", path_, ::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("cannot create {}: {}", temporary_, std::strerror(errno));
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* from, int64_t bytes) {
  SHOAL_CHECK(fd_ >= 0, "{} is closed", path_);
  const char* data = static_cast<const char*>(from);
  while (bytes > 0) {
    const int64_t part = std::min<int64_t>(bytes, static_cast<int64_t>(kBufferBytes - buffer_.size()));
    buffer_.append(data, static_cast<size_t>(part));
    data += part;
    bytes -= part;
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void OutputFile::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t put = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("cannot write {}: {}; {} is left as it was", temporary_, std::strerror(errno), path_);
    done += static_cast<size_t>(put);
  }
  buffer_.clear();
}

void OutputFile::close() {
  flush();
  if (::fsync(fd_) != 0) fail("cannot sync {}: {}; {} is left as it was", temporary_, std::strerror(errno), path_);
  if (::close(std::exchange(fd_, -1)) != 0) fail("cannot close {}: {}", temporary_, std::strerror(errno));
}

void OutputFile::commit() {
  if (fd_ >= 0) close();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail("cannot rename {} to {}: {}", temporary_, path_, std::strerror(errno));
  }
  temporary_.clear();
  sync_folder_of(path_);
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) == 0) {
    sync_folder_of(path);
  } else if (errno != ENOENT) {
    fail("cannot remove {}: {}", path, std::strerror(errno));
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
