// tests/emulated_cuda/arena.h: the emulated device's memory, which only kernels and copies may touch.
//
// One range of addresses. While no kernel and no copy runs, none of its pages can be read or written, so that host code
// that follows a device pointer stops at once. Fresh and freed memory is all 0xFF: NaN as a float, -1 as an integer.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace emulated {

// Thread-safe. Lives until the process ends.
class Arena {
 public:
  static Arena& instance();

  // Nothing is allocated for 0 bytes or when the device is full: nullptr.
  void* allocate(size_t bytes);
  // False when nothing was allocated there. Aborts when bytes beside the allocation were written.
  bool free(void* data);

  bool contains(const void* address) const;
  // Whether [data, data + bytes) lies within one live allocation.
  bool is_allocated(const void* data, size_t bytes) const;
  size_t capacity_bytes() const { return capacity_; }
  size_t live_bytes() const;
  size_t peak_bytes() const;

  // Device memory can be touched, by all OS threads, until as many close() as open() came.
  void open();
  void close();

 private:
  struct Block {
    size_t span;  // bytes of whole pages that may be touched; the pages that separate it from the next come behind
    size_t reserved;
    std::byte* data;
    size_t bytes;
  };

  Arena();
  bool reserve(size_t bytes);
  std::byte* take_span(size_t reserved);
  void give_span(std::byte* start, size_t reserved);
  void protect_all(int protection);
  void expose(std::byte* start, const Block& block);
  void hide(std::byte* start, const Block& block);
  size_t touchable_bytes(const Block& block) const;
  void check_slack(const std::byte* start, const Block& block);

  mutable std::mutex mutex_;
  bool guarded_;  // SHOAL_EMULATED_CUDA_GUARD=1
  std::byte* base_ = nullptr;
  size_t reserved_ = 0;
  size_t capacity_ = 0;
  size_t used_ = 0;  // everything in use or free for reuse lies below
  size_t live_bytes_ = 0;
  size_t peak_bytes_ = 0;
  int num_open_ = 0;
  std::map<std::byte*, Block> blocks_;  // by the start of their span
  std::map<std::byte*, size_t> free_;
};

struct ArenaAccess {
  ArenaAccess() { Arena::instance().open(); }
  ~ArenaAccess() { Arena::instance().close(); }
  ArenaAccess(const ArenaAccess&) = delete;
  ArenaAccess& operator=(const ArenaAccess&) = delete;
};

}  // namespace emulated
