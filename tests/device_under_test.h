// tests/device_under_test.h: one suite for every device: where the tests of ops compute.
#pragma once

#include <cstdlib>
#include <string_view>

#include "core/base/device.h"

namespace shoal {

// SHOAL_TEST_DEVICE=cuda: on the first CUDA device, the tests tagged [cuda]; without one the program says "skipped" and
// exits with 77 (tests/test_main.cpp). Nothing, or cpu: on the CPU, all tests.
inline DeviceKind device_under_test() {
  const char* wanted = std::getenv("SHOAL_TEST_DEVICE");
  return wanted != nullptr && std::string_view(wanted) == "cuda" ? DeviceKind::kCuda : DeviceKind::kCpu;
}

}  // namespace shoal
