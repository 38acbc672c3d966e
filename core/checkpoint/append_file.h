// core/checkpoint/append_file.h: a log file of whole records.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace shoal {

// Each append hands the whole record to the kernel before it returns, so that a reader, or a crash of the process, sees
// whole records only. When the disk fills in the middle of one, the file is cut back to the last whole record. The file
// is locked (flock) while it is open, where the file system has locks: another one of the same path is refused.
class AppendFile {
 public:
  enum class Open {
    kNew,   // which must not exist: nobody appends to another run's records
    kGoOn,  // where an earlier process of this run stopped; half a last line is cut off. Made when it is not there
  };
  explicit AppendFile(std::filesystem::path path, Open open = Open::kNew);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  void append(std::string_view record);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  int64_t bytes_ = 0;
};

// Whether an AppendFile of this path is open, in any process of this machine.
bool is_being_appended_to(const std::filesystem::path& path);

}  // namespace shoal
