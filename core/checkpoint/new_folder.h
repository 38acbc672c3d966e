// core/checkpoint/new_folder.h: a folder that is still there after a power failure, on a disk with room for its files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/checkpoint/file_system.h"

namespace shoal {

// The nearest folder above (or at) `path` that exists: the file system that will hold it.
std::filesystem::path existing_ancestor(std::filesystem::path path);

// Makes it, and those above it that are missing, and syncs their names: all that is synced in it later hangs on these.
// `what` begins the message of an error ("run.dir runs/a"). A sync that fails is no error: it is returned, in a
// sentence.
std::string make_folder_synced(const std::filesystem::path& folder, FileSystem& files, const std::string& what);

// Throws DiskFull where the file system of `folder`, which need not exist yet, has less than 1.05 times `bytes`.
void check_room(const std::filesystem::path& folder, int64_t bytes, FileSystem& files);

}  // namespace shoal
