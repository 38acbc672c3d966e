// tests/emulated_cuda/sanitizers.h: what AddressSanitizer is told about device memory.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace emulated {

// It then reports a kernel's step outside of an allocation with the kernel's line.
inline void forbid([[maybe_unused]] void* start, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(start, bytes);
#endif
}
inline void allow([[maybe_unused]] void* start, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(start, bytes);
#endif
}

}  // namespace emulated
