// parallel/gpu_transport.h: how messages between GPUs travel: over NCCL, or by way of host memory and MPI.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/config/config.pb.h"
#include "parallel/communicator.h"

namespace shoal {

// What decides, of all ranks.
struct GpuRank {
  bool on_gpu = false;
  bool has_nccl = false;
  int64_t gpu = 0;  // a number of the GPU, of all machines
};
struct GpuTransport {
  bool nccl = false;
  std::string why;  // not NCCL; empty where it is
};

// NCCL wants a GPU for each rank, and itself on each. TRANSPORT_AUTO falls back to MPI; NCCL that cannot be had is
// refused with one sentence. `why_no_nccl`: this rank's, or empty.
GpuTransport choose_gpu_transport(ParallelConfig::Transport wanted, const std::vector<GpuRank>& ranks,
                                  const std::string& why_no_nccl);

struct GpuWorld {
  std::unique_ptr<Communicator> world;
  std::string told;  // "messages between GPUs go …": which way and why; empty where there is nothing to say
};

// Collective and blocking: the world of ranks whose tensors are in `memory`, over `ranks`, whose messages are on the
// host. `host`: memory for copies. Both outlive it. NCCL that refuses where it was not asked for by name gives way to
// MPI, on all ranks.
GpuWorld connect_gpus(std::unique_ptr<Communicator> ranks, ParallelConfig::Transport wanted, Allocator& memory,
                      Allocator& host);

}  // namespace shoal
