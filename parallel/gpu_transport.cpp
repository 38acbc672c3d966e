// parallel/gpu_transport.cpp: what every rank has, what follows from it, and a try.
#include "parallel/gpu_transport.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <utility>

#include "core/base/random.h"
#include "parallel/nccl_communicator.h"
#include "parallel/nccl_library.h"
#include "parallel/staged_communicator.h"

namespace shoal {

namespace {

// As NCCL tells hosts apart: NCCL_HOSTID, where that is set, is another name for this one.
std::string host_name() {
  if (const char* id = std::getenv("NCCL_HOSTID")) return id;
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "this host";
}

// By its place, as NCCL tells GPUs apart. This thread's device is the rank's.
GpuRank this_rank(DeviceKind device) {
  GpuRank rank;
  rank.on_gpu = device == DeviceKind::kCuda;
  if (!rank.on_gpu) return rank;
  rank.has_nccl = why_no_nccl().empty();
  rank.gpu = static_cast<int64_t>(stream_of(host_name() + " " + describe_cuda_device(current_cuda_device()).pci_bus));
  return rank;
}

std::vector<GpuRank> all_ranks(const GpuRank& mine, Communicator& ranks) {
  constexpr int64_t kWords = 3;
  Allocator allocator(DeviceKind::kCpu);
  const Tensor all = Tensor::zeros({ranks.size() * kWords}, DType::kI64, allocator, MemoryKind::kWorkspace);
  const Tensor own = all.rows(ranks.rank() * kWords, kWords);
  own.copy_from<int64_t>({mine.on_gpu ? 1 : 0, mine.has_nccl ? 1 : 0, mine.gpu});
  wait(ranks.all_gather(all, own));
  std::vector<GpuRank> facts;
  for (const int64_t* words = all.data<int64_t>(); words < all.data<int64_t>() + all.numel(); words += kWords) {
    facts.push_back({.on_gpu = words[0] != 0, .has_nccl = words[1] != 0, .gpu = words[2]});
  }
  return facts;
}

// Collective.
bool all_say(bool yes, Communicator& ranks) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor count = Tensor::zeros({1}, DType::kI64, allocator, MemoryKind::kWorkspace);
  count.copy_from<int64_t>({yes ? 1 : 0});
  wait(ranks.all_reduce(count));
  return count.data<int64_t>()[0] == ranks.size();
}

// "ranks 0 and 1", the first two that share a GPU; empty where none do.
std::string first_to_share(const std::vector<GpuRank>& ranks) {
  std::map<int64_t, size_t> owner;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].on_gpu) continue;
    const auto [first, is_new] = owner.emplace(ranks[rank].gpu, rank);
    if (!is_new) return fmt::format("ranks {} and {}", first->second, rank);
  }
  return {};
}

// What stands against NCCL, and what to do about it.
struct Obstacle {
  std::string what, remedy;
};

Obstacle obstacle_to_nccl(const std::vector<GpuRank>& ranks, const std::string& why_no_nccl) {
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].on_gpu) {
      return {fmt::format("rank {} computes on the CPU", rank), "set run.device to CUDA to learn why"};
    }
  }
  if (const std::string sharers = first_to_share(ranks); !sharers.empty()) {
    return {sharers + " share one GPU, and NCCL takes one rank a GPU", "start at most as many ranks as there are GPUs"};
  }
  if (!why_no_nccl.empty()) return {why_no_nccl, "see to that"};
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].has_nccl) {
      return {fmt::format("rank {} has no NCCL", rank), "install libnccl.so.2 on every machine"};
    }
  }
  return {};
}

}  // namespace

GpuTransport choose_gpu_transport(ParallelConfig::Transport wanted, const std::vector<GpuRank>& ranks,
                                  const std::string& why_no_nccl) {
  if (wanted == ParallelConfig::MPI) return {.nccl = false, .why = "parallel.transport is MPI"};
  const Obstacle obstacle = obstacle_to_nccl(ranks, why_no_nccl);
  if (obstacle.what.empty()) return {.nccl = true, .why = {}};
  if (wanted == ParallelConfig::NCCL) {
    fail("parallel.transport is NCCL, but {}; {}, or set parallel.transport to MPI", obstacle.what, obstacle.remedy);
  }
  return {.nccl = false, .why = obstacle.what};
}

GpuWorld connect_gpus(std::unique_ptr<Communicator> ranks, ParallelConfig::Transport wanted, Allocator& memory,
                      Allocator& host) {
  const bool by_name = wanted == ParallelConfig::NCCL;
  // Where nothing travels NCCL is not even opened, unless it is asked for by name: then it is tried all the same.
  if (ranks->size() == 1 && !by_name) return {.world = std::move(ranks), .told = {}};
  const std::vector<GpuRank> facts = all_ranks(this_rank(memory.device()), *ranks);
  const bool some_gpu = std::ranges::any_of(facts, &GpuRank::on_gpu);
  if (!some_gpu && !by_name) return {.world = std::move(ranks), .told = {}};

  GpuTransport transport = choose_gpu_transport(wanted, facts, some_gpu ? why_no_nccl() : "");
  const std::shared_ptr<Communicator> shared = std::move(ranks);
  if (transport.nccl) {
    GpuWorld connected;
    std::string refusal;
    try {
      connected.world = std::make_unique<NcclCommunicator>(shared, memory, nccl_library(),
                                                           NcclOptions{.own_pieces_too = shared->size() == 1});
    } catch (const Error& error) {
      if (by_name) throw;
      refusal = error.what();
      // At once: the other ranks may still be connecting to this one.
      spdlog::warn("NCCL refused on rank {}: {}", shared->rank(), refusal);
    }
    if (all_say(refusal.empty(), *shared)) {
      connected.told = fmt::format("messages between GPUs go over NCCL {}", nccl_version(nccl_library()));
      return connected;
    }
    transport.why = refusal.empty() ? "NCCL refused on another rank" : refusal;
  }
  GpuWorld staged;
  staged.told = fmt::format("messages between GPUs go by way of host memory and MPI: {}", transport.why);
  staged.world = std::make_unique<StagedCommunicator>(shared, host);
  return staged;
}

}  // namespace shoal
