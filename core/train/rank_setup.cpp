// core/train/rank_setup.cpp: masks gathered, nonces compared.
#include "core/train/rank_setup.h"

#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "core/base/atomic_file.h"
#include "core/base/random.h"

namespace shoal {

namespace {

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "this host";
}

constexpr int64_t kMaskWords = CPU_SETSIZE / 64;

}  // namespace

CpuThreads set_up_threads(Communicator& world, int forced_threads) {
  Allocator allocator(DeviceKind::kCpu);
  const int64_t width = 1 + kMaskWords;  // host, then one bit a CPU
  const Tensor all = Tensor::zeros({world.size() * width}, DType::kI64, allocator, MemoryKind::kWorkspace);
  const Tensor mine = all.rows(world.rank() * width, width);
  int64_t* words = mine.data<int64_t>();
  words[0] = static_cast<int64_t>(stream_of(host_name()));
  for (const int cpu : affinity_cpus()) words[1 + cpu / 64] |= int64_t{1} << (cpu % 64);
  wait(world.all_gather(all, mine));

  std::vector<std::vector<int>> local_masks;
  int local_rank = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    const int64_t* theirs = all.data<int64_t>() + rank * width;
    if (theirs[0] != words[0]) continue;
    if (rank == world.rank()) local_rank = static_cast<int>(local_masks.size());
    std::vector<int> cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if ((theirs[1 + cpu / 64] >> (cpu % 64)) & 1) cpus.push_back(cpu);
    }
    local_masks.push_back(std::move(cpus));
  }
  CpuThreads threads = plan_cpu_threads(local_masks, local_rank, forced_threads);
  apply_cpu_threads(threads);
  return threads;
}

void check_shared_folder(const std::filesystem::path& folder, Communicator& world) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor nonce = Tensor::zeros({1}, DType::kI64, allocator, MemoryKind::kWorkspace);
  const std::filesystem::path file = folder / ".nonce";
  if (world.rank() == 0) {
    std::random_device entropy;
    nonce.data<int64_t>()[0] = static_cast<int64_t>((uint64_t{entropy()} << 32 | entropy()) >> 1);
    try {
      write_text_file(file, std::to_string(nonce.data<int64_t>()[0]));
    } catch (const Error& error) {
      fail("run.dir '{}': cannot be written in: {}", folder.string(), error.what());
    }
  }
  wait(world.broadcast(nonce, 0));
  int64_t found = -1;
  std::ifstream(file) >> found;
  if (found != nonce.data<int64_t>()[0]) {
    fail(
        "run.dir '{}' on {} is not the folder that rank 0 writes to: all ranks need one shared folder; mount it "
        "everywhere under the same path, or point run.dir to one that is",
        folder.string(), host_name());
  }
  wait(world.barrier());
  if (world.rank() == 0) std::filesystem::remove(file);
}

}  // namespace shoal
