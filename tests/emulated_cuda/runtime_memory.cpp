// tests/emulated_cuda/runtime_memory.cpp: allocations, copies and pools, with the errors that a device returns.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/emulated_cuda/arena.h"
#include "tests/emulated_cuda/report.h"
#include "tests/emulated_cuda/runtime_state.h"

struct CUmemPoolHandle_st {
  std::atomic<uint64_t> release_threshold = 0;
};

namespace emulated {
namespace {

constexpr size_t kHostAlignment = 4096;

struct PinnedMemory {
  std::mutex mutex;
  std::map<const std::byte*, size_t> blocks;
};
PinnedMemory& pinned() {
  static auto* memory = new PinnedMemory;
  return *memory;
}

cudaMemPool_t default_pool() {
  static auto* pool = new CUmemPoolHandle_st;
  return pool;
}

// False when the range starts in pinned memory and ends behind it; of other host memory nothing is known.
bool is_host_range(const void* data, size_t bytes) {
  if (Arena::instance().contains(data)) return false;
  PinnedMemory& memory = pinned();
  const std::lock_guard lock(memory.mutex);
  const auto* at = static_cast<const std::byte*>(data);
  const auto after = memory.blocks.upper_bound(at);
  if (after == memory.blocks.begin()) return true;
  const auto& [start, size] = *std::prev(after);
  return at >= start + size || bytes <= static_cast<size_t>(start + size - at);
}

bool is_range(const void* data, size_t bytes, bool on_device) {
  if (data == nullptr) return false;
  return on_device ? Arena::instance().is_allocated(data, bytes) : is_host_range(data, bytes);
}

size_t extent(size_t pitch, size_t width, size_t height) { return (height - 1) * pitch + width; }

cudaError_t copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                      cudaMemcpyKind kind, cudaStream_t stream) {
  if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (width == 0 || height == 0) return cudaSuccess;
  if (height > 1 && (width > to_pitch || width > from_pitch)) return cudaErrorInvalidPitchValue;
  const Arena& arena = Arena::instance();
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) {
    to_device = arena.contains(to);
    from_device = arena.contains(from);
  }
  if (!is_range(to, extent(to_pitch, width, height), to_device) ||
      !is_range(from, extent(from_pitch, width, height), from_device)) {
    return cudaErrorInvalidValue;
  }
  install_fault_handler();
  const ArenaAccess access;
  for (size_t row = 0; row < height; ++row) {
    // Overlapping copies are undefined on a device.
    std::memmove(static_cast<std::byte*>(to) + row * to_pitch, static_cast<const std::byte*>(from) + row * from_pitch,
                 width);
  }
  return cudaSuccess;
}

cudaError_t set_rows(void* data, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (width == 0 || height == 0) return cudaSuccess;
  if (height > 1 && width > pitch) return cudaErrorInvalidPitchValue;
  if (!is_range(data, extent(pitch, width, height), true)) return cudaErrorInvalidValue;
  const ArenaAccess access;
  for (size_t row = 0; row < height; ++row) std::memset(static_cast<std::byte*>(data) + row * pitch, value, width);
  return cudaSuccess;
}

}  // namespace
}  // namespace emulated

using emulated::Arena;
using emulated::note;

cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (data == nullptr) return note(cudaErrorInvalidValue);
  emulated::install_fault_handler();
  *data = Arena::instance().allocate(bytes);
  return note(*data == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  return note(Arena::instance().free(data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t stream) {
  return emulated::is_stream(stream) ? cudaMalloc(data, bytes) : note(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  return emulated::is_stream(stream) ? cudaFree(data) : note(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaMallocHost(void** data, size_t bytes) { return cudaHostAlloc(data, bytes, cudaHostAllocDefault); }

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned flags) {
  if (data == nullptr || flags > 7) return note(cudaErrorInvalidValue);
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t whole_pages = (bytes + emulated::kHostAlignment - 1) / emulated::kHostAlignment;
  *data = std::aligned_alloc(emulated::kHostAlignment, whole_pages * emulated::kHostAlignment);
  if (*data == nullptr) return note(cudaErrorMemoryAllocation);
  std::memset(*data, 0xFF, bytes);
  const std::lock_guard lock(emulated::pinned().mutex);
  emulated::pinned().blocks.emplace(static_cast<const std::byte*>(*data), bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  if (data == nullptr) return cudaSuccess;
  {
    const std::lock_guard lock(emulated::pinned().mutex);
    if (emulated::pinned().blocks.erase(static_cast<const std::byte*>(data)) == 0) return note(cudaErrorInvalidValue);
  }
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return note(emulated::copy_rows(to, bytes, from, bytes, bytes, 1, kind, nullptr));
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return note(emulated::copy_rows(to, bytes, from, bytes, bytes, 1, kind, stream));
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  return note(emulated::copy_rows(to, to_pitch, from, from_pitch, width, height, kind, nullptr));
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return note(emulated::copy_rows(to, to_pitch, from, from_pitch, width, height, kind, stream));
}

cudaError_t cudaMemset(void* data, int value, size_t bytes) { return cudaMemsetAsync(data, value, bytes, nullptr); }

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  return note(emulated::set_rows(data, bytes, value, bytes, 1, stream));
}

cudaError_t cudaMemset2D(void* data, size_t pitch, int value, size_t width, size_t height) {
  return cudaMemset2DAsync(data, pitch, value, width, height, nullptr);
}

cudaError_t cudaMemset2DAsync(void* data, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  return note(emulated::set_rows(data, pitch, value, width, height, stream));
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (free == nullptr || total == nullptr) return note(cudaErrorInvalidValue);
  *total = Arena::instance().capacity_bytes();
  *free = *total - Arena::instance().live_bytes();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  if (pool == nullptr) return note(cudaErrorInvalidValue);
  if (device != 0) return note(cudaErrorInvalidDevice);
  *pool = emulated::default_pool();
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (pool != emulated::default_pool() || value == nullptr) return note(cudaErrorInvalidValue);
  if (attribute == cudaMemPoolAttrReleaseThreshold) pool->release_threshold = *static_cast<uint64_t*>(value);
  const bool known = attribute >= cudaMemPoolReuseFollowEventDependencies && attribute <= cudaMemPoolAttrUsedMemHigh;
  return note(known ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (pool != emulated::default_pool() || value == nullptr) return note(cudaErrorInvalidValue);
  const Arena& arena = Arena::instance();
  switch (attribute) {
    case cudaMemPoolReuseFollowEventDependencies:
    case cudaMemPoolReuseAllowOpportunistic:
    case cudaMemPoolReuseAllowInternalDependencies: *static_cast<int*>(value) = 1; break;
    case cudaMemPoolAttrReleaseThreshold: *static_cast<uint64_t*>(value) = pool->release_threshold; break;
    case cudaMemPoolAttrReservedMemCurrent:
    case cudaMemPoolAttrUsedMemCurrent: *static_cast<uint64_t*>(value) = arena.live_bytes(); break;
    case cudaMemPoolAttrReservedMemHigh:
    case cudaMemPoolAttrUsedMemHigh: *static_cast<uint64_t*>(value) = arena.peak_bytes(); break;
    default: return note(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t) {
  return note(pool == emulated::default_pool() ? cudaSuccess : cudaErrorInvalidValue);
}
