// core/base/allocator.h: one rank's memory: where it comes from, and what it is used for.
//
// Every tensor says what it is for (weights, gradients, …), so that the high-water mark of each category is known.
// On kSimulated only the counting happens. Freed CPU blocks are kept for the next request of the same size class:
// a training step asks for the same sizes again and again, and fresh pages cost more than many of the ops on them. CUDA
// blocks come from the device's pool, in the order of the rank's compute queue: freed behind the op that read them
// last, without waiting for it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/base/cuda_backend.h"
#include "core/base/device.h"

namespace shoal {

// kSnapshot: the copy of the state that a checkpoint is written from (core/checkpoint/state_snapshot.h).
enum class MemoryKind { kWeights, kGradients, kOptimizer, kActivations, kWorkspace, kSnapshot };
constexpr int kNumMemoryKinds = 6;
std::string_view name_of(MemoryKind kind);

struct MemoryUse {
  std::array<int64_t, kNumMemoryKinds> now_bytes{};
  std::array<int64_t, kNumMemoryKinds> peak_bytes{};           // each category's own high-water mark
  std::array<int64_t, kNumMemoryKinds> at_total_peak_bytes{};  // the split at the moment of total_peak_bytes
  int64_t total_now_bytes = 0;
  int64_t total_peak_bytes = 0;
};

// Thread-safe: the communication thread releases tensors too. Outlived safely by its tensors.
class Allocator {
 public:
  // kCuda: of this thread's device (use_cuda_device).
  explicit Allocator(DeviceKind device);
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  DeviceKind device() const { return device_; }
  // The rank's compute queue; null but on kCuda.
  CudaQueue queue() const;

  // Memory of `bytes`, aligned to 64, not zeroed; a null pointer with a counting owner on kSimulated.
  // Throws Error with the memory in use by category when the machine has no more.
  std::shared_ptr<std::byte> allocate(int64_t bytes, MemoryKind kind);

  MemoryUse use() const;
  // Forgets the high-water marks: the peaks start again from what is in use now.
  void reset_peaks();

  struct Pool;

 private:
  DeviceKind device_;
  std::shared_ptr<Pool> pool_;
};

}  // namespace shoal
