// core/cli/job.cpp: world, threads, mesh: in that order.
#include "core/cli/job.h"

#include <spdlog/spdlog.h>

#include "core/cli/machine.h"
#include "core/train/device_setup.h"
#include "parallel/gpu_transport.h"
#include "parallel/link_emulator.h"

namespace shoal {

MeshSizes mesh_sizes(const ParallelConfig& parallel) {
  return {.island = parallel.island(),
          .pipeline = parallel.pipeline(),
          .data = parallel.data(),
          .context = parallel.context(),
          .tensor = parallel.tensor(),
          .expert = parallel.expert(),
          .expert_tensor = parallel.expert_tensor()};
}

RunConfig cpu_run() {
  RunConfig run;
  run.set_device(RunConfig::CPU);
  return run;
}

Job::Job(MpiSession& session, const ParallelConfig& parallel, const RunConfig& run)
    : allocator_(std::make_unique<Allocator>(set_up_device(run.device(), session.local_rank()))) {
  const bool on_gpu = allocator_->device() == DeviceKind::kCuda;
  WorldOptions options{.ranks_per_node = parallel.ranks_per_node()};
  if (parallel.has_emulate()) options.emulate = emulated_links(parallel.emulate());
  GpuWorld connected =
      connect_gpus(session.world(on_gpu ? host_ : *allocator_, options), parallel.transport(), *allocator_, host_);
  world_ = std::move(connected.world);
  threads_ = set_up_threads(*world_, run.threads());
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

}  // namespace shoal
