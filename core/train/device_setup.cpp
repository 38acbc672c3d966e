// core/train/device_setup.cpp: GPUs dealt to the ranks of a machine.
#include "core/train/device_setup.h"

#include <fmt/format.h>

#include "core/base/cuda_backend.h"

namespace shoal {

DeviceKind set_up_device(RunConfig::Device wanted, int local_rank) {
  if (wanted == RunConfig::CPU) return DeviceKind::kCpu;
  const int count = cuda_device_count();
  const int index = count > 0 ? local_rank % count : 0;  // touching another rank's GPU would take memory there
  if (wanted == RunConfig::DEVICE_AUTO) return why_no_cuda(index).empty() ? DeviceKind::kCuda : DeviceKind::kCpu;
  use_cuda_device(index);
  return DeviceKind::kCuda;
}

DeviceKind expected_device(RunConfig::Device wanted) {
  if (wanted == RunConfig::DEVICE_AUTO) return why_no_cuda(0).empty() ? DeviceKind::kCuda : DeviceKind::kCpu;
  return wanted == RunConfig::CPU ? DeviceKind::kCpu : DeviceKind::kCuda;
}

std::string unused_gpu_warning(RunConfig::Device wanted, DeviceKind device, bool has_gpu) {
  if (wanted != RunConfig::DEVICE_AUTO || device == DeviceKind::kCuda || !has_gpu) return {};
  return "computing on the CPU, though a GPU is here: " + why_no_cuda(0);
}

std::string sharing_warning(DeviceKind device, int local_size) {
  const int count = cuda_device_count();
  if (device != DeviceKind::kCuda || local_size <= count) return {};
  return fmt::format(
      "{} ranks share {} GPU{}: they take turns, and their messages go by way of host memory; start at most {} "
      "rank{} a machine for speed",
      local_size, count, count == 1 ? "" : "s", count, count == 1 ? "" : "s");
}

}  // namespace shoal
