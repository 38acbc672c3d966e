// tests/emulated_cuda/fiber.h: a stack and the point where it goes on.
#pragma once

#include <cstddef>

// SHOAL_EMULATED_CUDA_UCONTEXT tests the fallback where it is not needed.
#if defined(__x86_64__) && !defined(SHOAL_EMULATED_CUDA_UCONTEXT)
#define SHOAL_EMULATED_CUDA_ASSEMBLY 1
#else
#include <ucontext.h>
#endif

namespace emulated {

// Belongs to the OS thread that made it, and runs only there.
class Fiber {
 public:
  // The stack that the OS thread already runs on.
  Fiber();
  // A stack of its own; the first switch to it calls `entry`, which must never return.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Called on this fiber: `next` goes on. Returns when another switches back.
  void switch_to(Fiber& next);

  bool guards(const void* address) const;

 private:
  static void first_entry();
  void arrive();

  void (*entry_)() = nullptr;
  std::byte* mapping_ = nullptr;        // a guard page, then the stack
  const void* stack_bottom_ = nullptr;  // for AddressSanitizer
  size_t stack_bytes_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;    // AddressSanitizer's
  [[maybe_unused]] void* race_context_ = nullptr;  // ThreadSanitizer's
#if defined(SHOAL_EMULATED_CUDA_ASSEMBLY)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_{};
#endif
};

}  // namespace emulated
