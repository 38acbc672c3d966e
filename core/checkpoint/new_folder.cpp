// core/checkpoint/new_folder.cpp: names synced from the outermost inwards.
#include "core/checkpoint/new_folder.h"

#include <system_error>
#include <vector>

namespace shoal {

namespace fs = std::filesystem;

fs::path existing_ancestor(fs::path path) {
  std::error_code ignored;
  while (!fs::exists(path, ignored) && path.has_relative_path()) path = path.parent_path();
  return path;
}

std::string make_folder_synced(const fs::path& given, FileSystem& files, const std::string& what) {
  fs::path folder = fs::absolute(given).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // a slash at its end
  std::error_code error;
  std::vector<fs::path> parents{folder.parent_path()};
  while (!fs::exists(parents.back(), error) && parents.back().has_relative_path()) {
    parents.push_back(parents.back().parent_path());
  }
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot be created: {}", what, error.message());
  try {
    for (auto parent = parents.rbegin(); parent != parents.rend(); ++parent) files.sync_directory(*parent);
  } catch (const Error& failure) {  // a folder above that may not be read: no reason not to work
    return fmt::format("{}: may be gone after a power failure: {}", what, failure.what());
  }
  return {};
}

void check_room(const fs::path& folder, int64_t bytes, FileSystem& files) {
  const fs::path on = existing_ancestor(fs::absolute(folder));
  const int64_t needed = bytes + bytes / 20, free = files.free_bytes(on);
  if (free >= needed) return;
  throw DiskFull(
      fmt::format("{}: no space left: {} bytes are to be written, and {} are available on its file system; free some, "
                  "or choose a folder on another disk",
                  folder.string(), needed, free));
}

}  // namespace shoal
