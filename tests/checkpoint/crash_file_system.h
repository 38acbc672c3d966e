// tests/checkpoint/crash_file_system.h: a disk whose machine may stop after any call, and what may be left on it then.
//
// Calls reach the real disk, so that what runs on it sees what it wrote, and a model of what a power failure keeps:
// bytes that were synced, names that their folder's sync made last. Everything else may or may not be there.
#pragma once

#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/checkpoint/file_system.h"

namespace shoal {

// What becomes of what was not synced.
enum class CrashState {
  kAllThere,      // a process died, the machine lives
  kAllLost,       // data and names
  kNamesKept,     // data lost: files are empty, or as long as they were with zeros in them
  kTornData,      // names kept, a random part of the data
  kRandomSubset,  // of names, in every folder any; of data, in every file any part
};
constexpr CrashState kDeterministicStates[] = {CrashState::kAllThere, CrashState::kAllLost, CrashState::kNamesKept};

class CrashFileSystem : public FileSystem {
 public:
  // `root`: an empty folder; paths outside it are refused.
  explicit CrashFileSystem(Path root);

  // Called after every call, and in the middle of every write.
  void set_after_call(std::function<void()> after_call) { after_call_ = std::move(after_call); }
  int64_t calls() const { return calls_; }
  // Writes what may be left after the machine stopped now to `folder`, which must not exist.
  void materialise(const Path& folder, CrashState state, uint64_t seed) const;

  std::unique_ptr<OutputFile> create(const Path& path) override;
  void make_directory(const Path& path) override;
  void rename(const Path& from, const Path& to) override;
  bool exchange(const Path& a, const Path& b) override;
  void remove_file(const Path& path) override;
  void remove_directory(const Path& path) override;
  void sync_directory(const Path& path) override;
  int64_t free_bytes(const Path&) override { return int64_t{1} << 40; }
  // Of the real disk: what runs on it sees what it wrote.
  FileStatus status(const Path& path) override { return disk().status(path); }
  std::vector<std::string> list(const Path& directory) override { return disk().list(directory); }
  std::unique_ptr<ReadableFile> open(const Path& path) override { return disk().open(path); }

 private:
  friend class CrashFile;
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using Names = std::map<std::string, NodePtr>;
  // A change of names that happens as a whole or not at all; null: the name goes.
  using NameChange = std::vector<std::pair<std::string, NodePtr>>;
  struct Node {
    bool is_folder = false;
    std::string data, synced_data;  // of a file
    Names names, synced_names;      // of a folder
    std::vector<NameChange> unsynced;
  };

  Node& folder_of(const Path& path, std::string& name);
  Node& node_of(const Path& path);
  void change(Node& folder, NameChange change);
  void called();
  void put(const Path& place, const Node& node, CrashState state, std::mt19937_64& random) const;

  Path root_;
  NodePtr tree_ = std::make_shared<Node>();
  int64_t calls_ = 0;
  std::function<void()> after_call_;
};

}  // namespace shoal
