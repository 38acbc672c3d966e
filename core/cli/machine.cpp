// core/cli/machine.cpp: reads /proc and /sys.
#include "core/cli/machine.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace shoal {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "Key:  value" of a /proc file; empty when there is no such line.
std::string value_of(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t at = line.find_first_not_of(" \t:", key.size());
    return at == std::string::npos ? "" : line.substr(at);
  }
  return "";
}

// "0-3,8" has five CPUs.
int count_cpus(const std::string& list) {
  int count = 0;
  std::stringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = 0;
    int last = 0;
    const int found = std::sscanf(part.c_str(), "%d-%d", &first, &last);
    if (found >= 1) count += found == 2 ? last - first + 1 : 1;
  }
  return count;
}

// The process's own cgroup first, then its parents up to the root: each may set a limit.
std::vector<fs::path> cgroup_folders() {
  const fs::path root = "/sys/fs/cgroup";
  std::vector<fs::path> folders;
  const std::string line = first_line("/proc/self/cgroup");
  if (line.starts_with("0::/")) {
    for (fs::path path = line.substr(4); !path.empty(); path = path.parent_path()) folders.push_back(root / path);
  }
  folders.push_back(root);
  return folders;
}

int64_t meminfo_bytes(std::string_view key) {
  return std::atoll(value_of("/proc/meminfo", key).c_str()) * 1024;  // the file counts in kB
}

}  // namespace

ContainerLimits container_limits() {
  ContainerLimits limits;
  for (const fs::path& folder : cgroup_folders()) {
    double quota = 0;
    double period = 0;
    if (std::sscanf(first_line(folder / "cpu.max").c_str(), "%lf %lf", &quota, &period) == 2 && period > 0) {
      limits.cpus = limits.cpus > 0 ? std::min(limits.cpus, quota / period) : quota / period;
    }
    const int64_t memory = std::atoll(first_line(folder / "memory.max").c_str());  // "max" reads as 0
    if (memory > 0) limits.memory_bytes = limits.memory_bytes > 0 ? std::min(limits.memory_bytes, memory) : memory;
  }
  return limits;
}

int usable_cpus() {
  const int online = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  const int in_set = count_cpus(first_line(cgroup_folders().front() / "cpuset.cpus.effective"));
  return std::max(1, in_set > 0 ? std::min(in_set, online) : online);
}

int threads_per_core() {
  return std::max(1, count_cpus(first_line("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")));
}

std::optional<std::string> binding_warning(const std::string& host, int num_ranks, int smallest_mask, bool launched) {
  const int share = usable_cpus() / num_ranks;
  if (smallest_mask >= share) return std::nullopt;
  if (!launched) {
    return fmt::format("{}: this process may run on {} of {} CPUs (taskset, or a batch system's affinity mask)", host,
                       smallest_mask, usable_cpus());
  }
  return fmt::format(
      "{}: mpirun bound a rank to {} CPU{}, but {} rank{} could have {} each of {}; add `--bind-to none` to mpirun "
      "(Shoal pins its threads itself), or `--map-by slot:PE={}`",
      host, smallest_mask, smallest_mask == 1 ? "" : "s", num_ranks, num_ranks == 1 ? "" : "s", share, usable_cpus(),
      std::max(1, share / threads_per_core()));
}

int64_t memory_total_bytes() { return meminfo_bytes("MemTotal"); }
int64_t memory_available_bytes() { return meminfo_bytes("MemAvailable"); }

Space file_system_space(const fs::path& folder) {
  struct statvfs found {};
  if (::statvfs(folder.c_str(), &found) != 0) return {};
  const auto block = static_cast<int64_t>(found.f_frsize);
  return {.total_bytes = static_cast<int64_t>(found.f_blocks) * block,
          .free_bytes = static_cast<int64_t>(found.f_bavail) * block};
}

NvidiaReport find_nvidia() {
  NvidiaReport report;
  report.driver = value_of("/proc/driver/nvidia/version", "NVRM version");
  std::error_code none;
  for (const fs::directory_entry& gpu : fs::directory_iterator("/proc/driver/nvidia/gpus", none)) {
    report.gpus.push_back(value_of(gpu.path() / "information", "Model"));
  }
  const char* path = std::getenv("PATH");
  std::stringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((fs::path(folder) / "nvidia-smi").c_str(), X_OK) == 0) report.has_smi = true;
  }
  return report;
}

}  // namespace shoal
