// core/checkpoint/staged_folder.h: a folder that appears whole under its name, or not at all.
#pragma once

#include <filesystem>

namespace shoal {

// Files are written into path(), beside the target and with a name that begins with ".tmp-"; commit() syncs it and
// renames it to the target. Not committed, it is removed; after a crash it lies there, nothing looks finished, and the
// next for the same target tells of it. The target must not be there before, or be an empty folder (or a link to one),
// and no mount point; folders above it are made.
class StagedFolder {
 public:
  explicit StagedFolder(const std::filesystem::path& target);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::filesystem::path& path() const { return staging_; }
  void commit();

 private:
  std::filesystem::path target_, staging_;
  bool committed_ = false;
};

}  // namespace shoal
