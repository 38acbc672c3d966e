// core/train/device_setup.h: which device this rank computes on.
#pragma once

#include "core/base/device.h"
#include "core/config/config.pb.h"

namespace shoal {

// DEVICE_AUTO: a GPU where this program was built with CUDA and one is there that it can use, else the CPU. The ranks
// of a machine take its GPUs in turn; this thread's device is set. Throws a sentence when CUDA is wanted and cannot be
// had.
DeviceKind set_up_device(RunConfig::Device wanted, int local_rank);

// What set_up_device would take on this machine; CUDA where it is wanted, whether it can be had or not.
DeviceKind expected_device(RunConfig::Device wanted);

// When DEVICE_AUTO leaves a GPU idle: why; else empty. `has_gpu`: is one in this machine?
std::string unused_gpu_warning(RunConfig::Device wanted, DeviceKind device, bool has_gpu);

// When ranks share GPUs: what to say; else empty.
std::string sharing_warning(DeviceKind device, int local_size);

}  // namespace shoal
