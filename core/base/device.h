// core/base/device.h: where a tensor lives.
#pragma once

#include <string_view>

namespace shoal {

// kSimulated has shapes and no storage: the whole training step runs on it in milliseconds, counting memory and work.
enum class DeviceKind { kCpu, kCuda, kSimulated };

constexpr std::string_view name_of(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCpu: return "cpu";
    case DeviceKind::kCuda: return "cuda";
    case DeviceKind::kSimulated: return "simulated";
  }
  return "?";
}

}  // namespace shoal
