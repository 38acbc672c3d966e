// core/cli/job.cpp: world, threads, mesh: in that order.
#include "core/cli/job.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/cuda_backend.h"
#include "core/cli/machine.h"
#include "core/config/compare.h"
#include "core/train/device_setup.h"
#include "parallel/gpu_transport.h"
#include "parallel/link_emulator.h"

namespace shoal {

RunConfig cpu_run() {
  RunConfig run;
  run.set_device(RunConfig::CPU);
  return run;
}

namespace {

// Ranks of a machine share its memory, and its GPUs if there are fewer.
int64_t share_of_memory(DeviceKind device, int local_ranks) {
  if (device == DeviceKind::kCuda) {
    const int ranks_per_gpu = (local_ranks + cuda_device_count() - 1) / cuda_device_count();
    return describe_cuda_device(current_cuda_device()).memory_bytes / ranks_per_gpu;
  }
  const int64_t limit = container_limits().memory_bytes, available = memory_available_bytes();
  return (limit > 0 ? std::min(limit, available) : available) / local_ranks;
}

// Before links are emulated and axes made: ranks that see them differently would wait for each other, or do other
// things than they were told.
void check_agreement(const MpiSession& session, const ParallelConfig& parallel) {
  Config mine, first;
  *mine.mutable_parallel() = parallel;
  const std::string text = session.text_of_first(parallel.SerializeAsString());
  SHOAL_CHECK(first.mutable_parallel()->ParseFromString(text), "a config that rank 0 sent");
  const std::vector<ConfigChange> changes = compare_configs(first, mine);
  if (changes.empty()) return;
  fail("the ranks do not have the same config (rank 0's → rank {}'s):\n{}give all of them the same files and overrides",
       session.rank(), describe(changes));
}

}  // namespace

Job::Job(MpiSession& session, const ParallelConfig& parallel, const RunConfig& run)
    : allocator_(std::make_unique<Allocator>(set_up_device(run.device(), session.local_rank()))) {
  check_agreement(session, parallel);
  const bool on_gpu = allocator_->device() == DeviceKind::kCuda;
  WorldOptions options{.ranks_per_node = parallel.ranks_per_node()};
  if (parallel.has_emulate()) options.emulate = emulated_links(parallel.emulate());
  GpuWorld connected =
      connect_gpus(session.world(on_gpu ? host_ : *allocator_, options), parallel.transport(), *allocator_, host_);
  world_ = std::move(connected.world);
  threads_ = set_up_threads(*world_, run.threads());
  memory_bytes_ = share_of_memory(allocator_->device(), session.local_size());
  mesh_ = std::make_unique<ProcessMesh>(mesh_sizes(parallel), *world_);
  if (!speaks()) return;
  if (!connected.told.empty()) spdlog::info("{}", connected.told);
  if (world_->emulated_links() != nullptr) {
    spdlog::info("links are emulated: {}", describe(world_->emulated_links()->emulator()->links()));
  }
  const bool has_gpu = run.device() == RunConfig::DEVICE_AUTO && !find_nvidia().gpus.empty();
  const std::string unused = unused_gpu_warning(run.device(), allocator_->device(), has_gpu);
  if (!unused.empty()) spdlog::warn("{}", unused);
  const std::string shared = sharing_warning(allocator_->device(), session.local_size());
  if (!shared.empty()) spdlog::warn("{}", shared);
  if (!MpiSession::launched() || run.threads() > 0) return;
  const int mask = static_cast<int>(threads_.cpus.size()) * threads_.ranks_on_mask;
  if (const auto warning = binding_warning("this machine", session.local_size(), mask, true)) {
    spdlog::warn("{}", *warning);
  }
}

void Job::set_inter_node_link(LinkSpeed speed) const {
  wait(world_->barrier());
  SHOAL_CHECK(world_->emulated_links() != nullptr, "no links are emulated");
  world_->emulated_links()->emulator()->set_inter_node(speed);
  wait(world_->barrier());
}

}  // namespace shoal
