// core/cli/machine.h: what the operating system says about this machine, for `shoal doctor`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace shoal {

// The limits of a container (cgroup version 2), where there are any.
struct ContainerLimits {
  double cpus = 0;           // CPU time per time; 0: unlimited
  int64_t memory_bytes = 0;  // 0: unlimited
};

ContainerLimits container_limits();

// CPUs that a process of this machine or container could use if nobody bound it.
int usable_cpus();

// Hardware threads per core, at least 1.
int threads_per_core();

// How `num_ranks` ranks on one machine, of which one may run on only `smallest_mask` CPUs, should be started instead;
// none when nobody sees fewer CPUs than its share. `launched`: by mpirun or srun.
std::optional<std::string> binding_warning(const std::string& host, int num_ranks, int smallest_mask, bool launched);

int64_t memory_total_bytes();
int64_t memory_available_bytes();

struct Space {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  // for this user
};

// Of the file system that holds `folder`; zeros when there is none.
Space file_system_space(const std::filesystem::path& folder);

struct NvidiaReport {
  std::vector<std::string> gpus;  // model names, as the driver tells them
  std::string driver;             // empty: no driver is loaded
  bool has_smi = false;           // nvidia-smi is in PATH
};

// Reads files only; starts no program.
NvidiaReport find_nvidia();

}  // namespace shoal
