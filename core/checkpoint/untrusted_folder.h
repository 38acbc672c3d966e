// core/checkpoint/untrusted_folder.h: a folder whose files name each other, and must not name anything outside.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace shoal {

// Names are of the letters A-Z, a-z, 0-9, '.', '_' and '-', opened relative to the folder that was there at first, and
// never through a link. Throws Error with folder and name.
class UntrustedFolder {
 public:
  explicit UntrustedFolder(std::filesystem::path path);
  ~UntrustedFolder();
  UntrustedFolder(const UntrustedFolder&) = delete;
  UntrustedFolder& operator=(const UntrustedFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Whether there is anything of this name.
  bool contains(const std::string& name) const;
  // Refuses what is no name of a file of a folder.
  void check_name(const std::string& name) const;
  // A regular file, for reading: the caller's to close.
  int open(const std::string& name) const;
  // A whole file of at most max_bytes.
  std::string read_text(const std::string& name, int64_t max_bytes) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace shoal
