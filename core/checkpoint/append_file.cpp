// core/checkpoint/append_file.cpp: one write a record, cut back when it did not fit.
#include "core/checkpoint/append_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/base/atomic_file.h"
#include "core/base/check.h"

namespace shoal {

AppendFile::AppendFile(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) {
    fail("{}: cannot be created: {}", path_.string(), std::generic_category().message(errno));
  }
  // Best effort: some network file systems have no locks.
  [[maybe_unused]] const int locked = ::flock(fd_, LOCK_EX | LOCK_NB);
}

AppendFile::~AppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

void AppendFile::append(std::string_view record) {
  try {
    write_fully(fd_, record.data(), static_cast<int64_t>(record.size()), path_);
  } catch (...) {
    // Best effort: the error in flight says what matters, and readers skip a torn last record.
    [[maybe_unused]] const int cut = ::ftruncate(fd_, bytes_);
    throw;
  }
  bytes_ += static_cast<int64_t>(record.size());
}

bool is_being_appended_to(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  const bool locked = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return locked;
}

}  // namespace shoal
