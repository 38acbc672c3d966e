// core/base/allocator.cpp: counted, size-classed CPU blocks.
#include "core/base/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "core/base/check.h"
#include "core/base/out_of_memory.h"

namespace shoal {

std::string_view name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kWeights: return "weights";
    case MemoryKind::kGradients: return "gradients";
    case MemoryKind::kOptimizer: return "optimizer";
    case MemoryKind::kActivations: return "activations";
    case MemoryKind::kWorkspace: return "workspace";
    case MemoryKind::kSnapshot: return "snapshot";
  }
  return "?";
}

namespace {

constexpr int64_t kAlignment = 64;

// Rounds up to one of eight steps per power of two: at most 12.5 % unused, few distinct sizes.
int64_t size_class(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, kAlignment);
  const int64_t power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes)));
  const int64_t step = std::max<int64_t>(power / 8, kAlignment);
  return (bytes + step - 1) / step * step;
}

}  // namespace

struct Allocator::Pool {
  explicit Pool(DeviceKind kind) : device(kind), queue(kind == DeviceKind::kCuda ? create_cuda_queue() : nullptr) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  const DeviceKind device;
  const CudaQueue queue;
  mutable std::mutex mutex;
  MemoryUse use;
  std::map<int64_t, std::vector<void*>> free_blocks;

  ~Pool() {
    release_free_blocks();
    if (queue != nullptr) destroy_cuda_queue(queue);
  }

  void release_free_blocks() {
    for (auto& [bytes, blocks] : free_blocks) {
      for (void* block : blocks) std::free(block);
    }
    free_blocks.clear();
  }

  void count(int64_t bytes, MemoryKind kind) {
    const size_t k = static_cast<size_t>(kind);
    use.now_bytes[k] += bytes;
    use.total_now_bytes += bytes;
    use.peak_bytes[k] = std::max(use.peak_bytes[k], use.now_bytes[k]);
    if (use.total_now_bytes > use.total_peak_bytes) {
      use.total_peak_bytes = use.total_now_bytes;
      use.at_total_peak_bytes = use.now_bytes;
    }
  }

  // Null where the device has no more.
  void* take(int64_t bytes) {
    if (device == DeviceKind::kSimulated) return nullptr;
    if (device == DeviceKind::kCuda) return allocate_cuda(bytes, queue);
    auto& blocks = free_blocks[bytes];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      return block;
    }
    void* block = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
    if (block == nullptr) {
      release_free_blocks();
      block = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
    }
    return block;
  }

  void give_back(void* block, int64_t bytes) {
    if (block == nullptr) return;
    if (device == DeviceKind::kCuda) return free_cuda(block, queue);
    free_blocks[bytes].push_back(block);
  }

  [[noreturn]] void out_of_memory(int64_t bytes, MemoryKind kind) const {
    std::string report;
    for (int k = 0; k < kNumMemoryKinds; ++k) {
      report += fmt::format("{}{} {:.1f} MiB", k ? ", " : "", name_of(static_cast<MemoryKind>(k)),
                            static_cast<double>(use.now_bytes[static_cast<size_t>(k)]) / (1 << 20));
    }
    throw OutOfMemory(fmt::format(
        "out of memory: {:.1f} MiB for {} refused by the {}; in use: {}; lower train.microbatch or the model's size, "
        "or start more ranks on more machines",
        static_cast<double>(bytes) / (1 << 20), name_of(kind), device == DeviceKind::kCuda ? "GPU" : "machine",
        report));
  }
};

Allocator::Allocator(DeviceKind device, DeviceKind imitated)
    : device_(device), imitated_(imitated), pool_(std::make_shared<Pool>(device)) {}
Allocator::~Allocator() = default;

CudaQueue Allocator::queue() const { return pool_->queue; }

std::shared_ptr<std::byte> Allocator::allocate(int64_t bytes, MemoryKind kind) {
  SHOAL_CHECK(bytes >= 0, "{} bytes", bytes);
  const int64_t counted = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  // The driver's pool has classes of its own.
  const int64_t block_bytes = device_ == DeviceKind::kCuda ? std::max(counted, kAlignment) : size_class(bytes);
  void* block = nullptr;
  {
    const std::lock_guard lock(pool_->mutex);
    block = pool_->take(block_bytes);
    if (block == nullptr && device_ != DeviceKind::kSimulated) pool_->out_of_memory(bytes, kind);
    pool_->count(counted, kind);
  }
  return {static_cast<std::byte*>(block), [pool = pool_, counted, block_bytes, kind](std::byte* p) {
            const std::lock_guard lock(pool->mutex);
            pool->count(-counted, kind);
            pool->give_back(p, block_bytes);
          }};
}

MemoryUse Allocator::use() const {
  const std::lock_guard lock(pool_->mutex);
  return pool_->use;
}

void Allocator::reset_peaks() {
  const std::lock_guard lock(pool_->mutex);
  MemoryUse& use = pool_->use;
  use.peak_bytes = use.now_bytes;
  use.total_peak_bytes = use.total_now_bytes;
  use.at_total_peak_bytes = use.now_bytes;
}

}  // namespace shoal
