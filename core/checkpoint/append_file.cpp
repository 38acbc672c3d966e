// core/checkpoint/append_file.cpp: one write a record, cut back when it did not fit.
#include "core/checkpoint/append_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "core/base/atomic_file.h"
#include "core/base/check.h"

namespace shoal {

namespace {

std::string reason() { return std::generic_category().message(errno); }

constexpr const char* kBusy = "another job is writing there; wait for its end, or choose another folder";

// false: somebody else has it. Some network file systems have no locks: then nobody is refused.
bool lock(int fd) {
  // Who only asks (is_being_appended_to) holds it for microseconds.
  for (int attempt = 0; attempt < 50; ++attempt) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

// Bytes up to the end of the last whole line.
int64_t whole_lines_bytes(int fd, const std::filesystem::path& path) {
  off_t end = ::lseek(fd, 0, SEEK_END);
  std::array<char, 4096> block{};
  while (end > 0) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(block.size()));
    const ssize_t got = ::pread(fd, block.data(), static_cast<size_t>(end - begin), begin);
    if (got < end - begin) fail("{}: cannot be read: {}", path.string(), got < 0 ? reason() : "it is being cut");
    for (ssize_t i = got; i > 0; --i) {
      if (block[static_cast<size_t>(i - 1)] == '\n') return begin + i;
    }
    end = begin;
  }
  return 0;
}

}  // namespace

AppendFile::AppendFile(std::filesystem::path path, Open open) : path_(std::move(path)) {
  const int how = open == Open::kNew ? O_WRONLY | O_EXCL : O_RDWR;
  fd_ = ::open(path_.c_str(), how | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0 && errno == EEXIST) {
    const std::string exists = reason();
    fail("{}: cannot be created: {}: {}", path_.string(), exists,
         is_being_appended_to(path_) ? kBusy : "another job has just begun there, or left it; choose another folder");
  }
  if (fd_ < 0) fail("{}: cannot be {}: {}", path_.string(), open == Open::kNew ? "created" : "opened", reason());
  try {
    if (!lock(fd_)) fail("{}: {}", path_.string(), kBusy);
    if (open == Open::kNew) return;
    bytes_ = whole_lines_bytes(fd_, path_);
    if (::ftruncate(fd_, bytes_) != 0) fail("{}: half a line cannot be cut off: {}", path_.string(), reason());
  } catch (...) {
    ::close(fd_);  // no destructor runs for an object that was never built
    throw;
  }
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
