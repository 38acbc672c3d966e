// tests/checkpoint/crash_file_system.cpp: inodes, names, and what of both is safe.
#include "tests/checkpoint/crash_file_system.h"

#include "tests/temporary_folder.h"

namespace shoal {

namespace fs = std::filesystem;

class CrashFile final : public OutputFile {
 public:
  CrashFile(CrashFileSystem& owner, CrashFileSystem::NodePtr node, std::unique_ptr<OutputFile> real)
      : owner_(owner), node_(std::move(node)), real_(std::move(real)) {}

  void write(const void* data, int64_t bytes) override {
    real_->write(data, bytes);
    const auto* from = static_cast<const char*>(data);
    node_->data.append(from, static_cast<size_t>(bytes / 2));
    owner_.called();
    node_->data.append(from + bytes / 2, static_cast<size_t>(bytes - bytes / 2));
    owner_.called();
  }
  void sync() override {
    node_->synced_data = node_->data;
    owner_.called();
  }
  void close() override {
    real_->close();
    owner_.called();
  }

 private:
  CrashFileSystem& owner_;
  CrashFileSystem::NodePtr node_;
  std::unique_ptr<OutputFile> real_;
};

CrashFileSystem::CrashFileSystem(Path root) : root_(std::move(root)) { tree_->is_folder = true; }

CrashFileSystem::Node& CrashFileSystem::node_of(const Path& path) {
  Node* at = tree_.get();
  const Path relative = path.lexically_relative(root_);
  SHOAL_CHECK(!relative.empty() && *relative.begin() != "..", "{} is outside {}", path.string(), root_.string());
  for (const Path& part : relative) {
    if (part == ".") continue;
    const auto found = at->names.find(part.string());
    SHOAL_CHECK(found != at->names.end(), "{}: nothing is there", path.string());
    at = found->second.get();
  }
  return *at;
}

CrashFileSystem::Node& CrashFileSystem::folder_of(const Path& path, std::string& name) {
  name = path.filename().string();
  return node_of(path.parent_path());
}

void CrashFileSystem::change(Node& folder, NameChange change) {
  for (const auto& [name, node] : change) {
    folder.names.erase(name);
    if (node) folder.names[name] = node;
  }
  folder.unsynced.push_back(std::move(change));
  called();
}

void CrashFileSystem::called() {
  ++calls_;
  if (after_call_) after_call_();
}

std::unique_ptr<OutputFile> CrashFileSystem::create(const Path& path) {
  auto real = disk().create(path);
  std::string name;
  Node& folder = folder_of(path, name);
  const auto node = std::make_shared<Node>();
  change(folder, {{name, node}});
  return std::make_unique<CrashFile>(*this, node, std::move(real));
}

void CrashFileSystem::make_directory(const Path& path) {
  disk().make_directory(path);
  std::string name;
  Node& folder = folder_of(path, name);
  const auto node = std::make_shared<Node>();
  node->is_folder = true;
  change(folder, {{name, node}});
}

void CrashFileSystem::rename(const Path& from, const Path& to) {
  disk().rename(from, to);
  std::string old_name, new_name;
  Node& folder = folder_of(from, old_name);
  SHOAL_CHECK(&folder == &folder_of(to, new_name), "renamed from one folder to another");
  change(folder, {{old_name, nullptr}, {new_name, folder.names.at(old_name)}});
}

bool CrashFileSystem::exchange(const Path& a, const Path& b) {
  if (!disk().exchange(a, b)) return false;
  std::string name_a, name_b;
  Node& folder = folder_of(a, name_a);
  SHOAL_CHECK(&folder == &folder_of(b, name_b), "exchanged from one folder to another");
  change(folder, {{name_a, folder.names.at(name_b)}, {name_b, folder.names.at(name_a)}});
  return true;
}

void CrashFileSystem::remove_file(const Path& path) {
  disk().remove_file(path);
  std::string name;
  Node& folder = folder_of(path, name);
  change(folder, {{name, nullptr}});
}

void CrashFileSystem::remove_directory(const Path& path) {
  disk().remove_directory(path);
  std::string name;
  Node& folder = folder_of(path, name);
  change(folder, {{name, nullptr}});
}

void CrashFileSystem::sync_directory(const Path& path) {
  Node& folder = node_of(path);
  folder.synced_names = folder.names;
  folder.unsynced.clear();
  called();
}

namespace {

// What a disk may have of data of which only a part was synced.
std::string left_of(const std::string& data, const std::string& synced, CrashState state, std::mt19937_64& random) {
  if (data == synced || state == CrashState::kAllThere) return data;
  if (state == CrashState::kAllLost) return synced;
  const bool grown = random() % 2 == 0;  // the size was written before the data
  if (state == CrashState::kNamesKept) return grown ? synced + std::string(data.size() - synced.size(), '\0') : synced;
  if (state == CrashState::kRandomSubset && random() % 3 == 0) return random() % 2 == 0 ? data : synced;
  std::string torn = data;
  const size_t lost = data.size() - synced.size(), from = synced.size() + random() % (lost + 1);
  if (!grown) return torn.substr(0, from);
  for (size_t at = from; at < torn.size() && at < from + 512; ++at) torn[at] = '\0';
  return torn;
}

}  // namespace

void CrashFileSystem::put(const Path& place, const Node& node, CrashState state, std::mt19937_64& random) const {
  if (!node.is_folder) return make_file(place, left_of(node.data, node.synced_data, state, random));
  fs::create_directory(place);
  Names names = state == CrashState::kAllLost || state == CrashState::kRandomSubset ? node.synced_names : node.names;
  if (state == CrashState::kRandomSubset) {
    for (const NameChange& change : node.unsynced) {
      if (random() % 2 == 0) continue;
      for (const auto& [name, target] : change) {
        names.erase(name);
        if (target) names[name] = target;
      }
    }
  }
  for (const auto& [name, target] : names) put(place / name, *target, state, random);
}

void CrashFileSystem::materialise(const Path& folder, CrashState state, uint64_t seed) const {
  std::mt19937_64 random(seed);
  put(folder, *tree_, state, random);
}

}  // namespace shoal
