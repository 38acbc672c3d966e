// core/checkpoint/staged_folder.cpp: beside its target, so that one rename finishes it.
#include "core/checkpoint/staged_folder.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <system_error>

#include "core/base/atomic_file.h"
#include "core/base/check.h"
#include "core/checkpoint/new_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

// Without "." and a trailing slash, so that it has a parent and a name.
fs::path named_path(const fs::path& path) {
  fs::path whole = fs::absolute(path).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

// What a link leads to: the rename replaces that, not the link.
fs::path behind_links(const fs::path& target) {
  std::error_code error;
  if (!fs::is_symlink(fs::symlink_status(target, error))) return target;
  const fs::path real = fs::canonical(target, error);
  if (error) fail("{}: is a link to {}, which is not there", target.string(), fs::read_symlink(target, error).string());
  return real;
}

// Asks the kernel: a folder of the same disk may be mounted there (mount --bind), and has the same device.
bool is_mount_point(const fs::path& folder) {
  struct statx found {};
  if (::statx(AT_FDCWD, folder.c_str(), 0, STATX_INO, &found) != 0) return false;
  if ((found.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0) {
    return (found.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  }
  struct stat own {
  }, parents{};  // a kernel before 5.8
  return ::stat(folder.c_str(), &own) == 0 && ::stat(folder.parent_path().c_str(), &parents) == 0 &&
         own.st_dev != parents.st_dev;
}

// All that would stop the rename, before hours of writing.
void check_replaceable(const fs::path& target, const fs::path& given) {
  std::error_code error;
  if (!fs::exists(target, error)) return;
  if (!fs::is_directory(target, error) || !fs::is_empty(target, error)) {
    fail("{}: is there already, and is no empty folder; choose another, or remove it", given.string());
  }
  if (is_mount_point(target)) {
    fail("{}: something is mounted there, which no finished folder can replace; give a folder in it, such as {}",
         given.string(), (given / "model").string());
  }
}

// Another process may be writing one of them: which, this one cannot know.
void tell_of_remains(const fs::path& target) {
  const std::string prefix = fmt::format(".tmp-{}-", target.filename().string());
  std::error_code error;
  for (auto entry = fs::directory_iterator(target.parent_path(), error); !error && entry != end(entry);
       entry.increment(error)) {
    if (!entry->path().filename().string().starts_with(prefix)) continue;
    spdlog::warn("{}: is being written by another process, or was left by one that was killed: then remove it",
                 entry->path().string());
  }
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& target) : target_(behind_links(named_path(target))) {
  check_replaceable(target_, target);
  const fs::path parent = target_.parent_path();
  if (const std::string mishap = make_folder_synced(parent, disk(), parent.string()); !mishap.empty()) {
    spdlog::warn("{}", mishap);
  }
  tell_of_remains(target_);
  std::error_code error;
  // A name may be taken by what a killed process of the same number left (containers count from 1).
  for (int attempt = 0; attempt < 100; ++attempt) {
    staging_ = parent / fmt::format(".tmp-{}-{}-{}", target_.filename().string(), ::getpid(), attempt);
    if (fs::create_directory(staging_, error)) return;
    if (error) break;
  }
  const std::string reason = error ? error.message() : "names like it are taken";
  fail("{}: cannot be created: {}", staging_.string(), reason);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(staging_, ignored);
}

void StagedFolder::commit() {
  sync_directory(staging_);
  std::error_code error;
  fs::rename(staging_, target_, error);
  if (error) fail("{}: cannot be renamed to {}: {}", staging_.string(), target_.string(), error.message());
  committed_ = true;
  sync_directory(target_.parent_path());
}

}  // namespace shoal
