// core/checkpoint/staged_folder.cpp: beside its target, so that one rename finishes it.
#include "core/checkpoint/staged_folder.h"

#include <unistd.h>

#include <system_error>

#include "core/base/atomic_file.h"
#include "core/base/check.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

// Without "." and a trailing slash, so that it has a parent and a name.
fs::path named_path(const fs::path& path) {
  fs::path whole = fs::absolute(path).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& target) : target_(named_path(target)) {
  std::error_code error;
  if (fs::exists(target_, error) && (!fs::is_directory(target_, error) || !fs::is_empty(target_, error))) {
    fail("{}: is there already, and is no empty folder; choose another, or remove it", target.string());
  }
  // A name may be taken by what a killed process of the same number left (containers count from 1).
  for (int attempt = 0; attempt < 100; ++attempt) {
    staging_ = target_.parent_path() / fmt::format(".tmp-{}-{}-{}", target_.filename().string(), ::getpid(), attempt);
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
