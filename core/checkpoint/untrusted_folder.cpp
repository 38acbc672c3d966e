// core/checkpoint/untrusted_folder.cpp: openat, without following links.
#include "core/checkpoint/untrusted_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/base/check.h"

namespace shoal {
namespace {

std::string reason() { return std::generic_category().message(errno); }

bool is_plain(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), allowed);
}

}  // namespace

UntrustedFolder::UntrustedFolder(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd_ < 0) fail("{}: the folder cannot be opened: {}", path_.string(), reason());
}

UntrustedFolder::~UntrustedFolder() { ::close(fd_); }

bool UntrustedFolder::contains(const std::string& name) const {
  struct stat status {};
  return ::fstatat(fd_, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

void UntrustedFolder::check_name(const std::string& name) const {
  if (is_plain(name)) return;
  std::string shown = name.substr(0, 120);
  for (char& c : shown) {
    if (c < ' ' || c > '~') c = '?';
  }
  fail("{}: the file name \"{}\" is refused: expected letters A-Z, a-z, 0-9, '.', '_' and '-' only", path_.string(),
       shown);
}

int UntrustedFolder::open(const std::string& name) const {
  check_name(name);
  const int fd = ::openat(fd_, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 && errno == ELOOP) {
    fail("{}: is a link; links are not followed: copy the folder with its links resolved (cp -rL)",
         (path_ / name).string());
  }
  if (fd < 0) fail("{}: cannot be opened: {}", (path_ / name).string(), reason());
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    fail("{}: is not a regular file", (path_ / name).string());
  }
  return fd;
}

std::string UntrustedFolder::read_text(const std::string& name, int64_t max_bytes) const {
  const std::string file = (path_ / name).string();
  const int fd = open(name);
  std::string text;
  try {
    struct stat status {};
    if (::fstat(fd, &status) != 0) fail("{}: cannot be read: {}", file, reason());
    if (status.st_size > max_bytes) fail("{}: holds {} bytes; the limit is {}", file, status.st_size, max_bytes);
    text.resize(static_cast<size_t>(status.st_size));
    for (size_t done = 0; done < text.size();) {
      const ssize_t got = ::pread(fd, text.data() + done, text.size() - done, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail("{}: cannot be read: {}", file, reason());
      if (got == 0) fail("{}: ends at byte {}; it was cut while being read", file, done);
      done += static_cast<size_t>(got);
    }
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);
  return text;
}

}  // namespace shoal
