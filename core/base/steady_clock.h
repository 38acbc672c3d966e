// core/base/steady_clock.h: the one clock by which ops, waits, messages and timelines are timed.
#pragma once

#include <chrono>
#include <cstdint>

namespace shoal {

// Nanoseconds of std::chrono::steady_clock, which all processes of a machine share from its boot on.
inline int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The same in seconds.
inline double steady_s() { return static_cast<double>(steady_ns()) * 1e-9; }

}  // namespace shoal
