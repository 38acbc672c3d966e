// core/base/cuda_upload.cpp: host memory on its way to a device, through pinned blocks that a thread fills one after
// the other.
//
// A copy from memory that is not pinned waits for the queue inside the driver, and would drain it at every small table.
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/cuda_backend.h"
#include "core/base/cuda_check.h"

namespace shoal {

namespace {

constexpr int64_t kBlockBytes = int64_t{4} << 20;
constexpr int64_t kApart = 256;  // between uploads of one block

class Uploads {
 public:
  Uploads() = default;
  Uploads(const Uploads&) = delete;
  Uploads& operator=(const Uploads&) = delete;
  ~Uploads() {
    for (Block& block : blocks_) {
      if (block.copied != nullptr) destroy_cuda_event(block.copied);
      if (block.bytes != nullptr) cudaFreeHost(block.bytes);
    }
  }

  void copy(std::byte* to, const std::byte* from, int64_t bytes, CudaQueue queue) {
    while (bytes > 0) {
      Block& block = block_for(std::min(bytes, kBlockBytes), queue);
      const int64_t count = std::min(bytes, kBlockBytes - block.used);
      std::memcpy(block.bytes + block.used, from, static_cast<size_t>(count));
      check_cuda(
          cudaMemcpyAsync(to, block.bytes + block.used, static_cast<size_t>(count), cudaMemcpyHostToDevice, queue),
          "cudaMemcpyAsync");
      record_cuda_event(block.copied, queue);
      block.used += (count + kApart - 1) / kApart * kApart;
      to += count;
      from += count;
      bytes -= count;
    }
  }

 private:
  struct Block {
    std::byte* bytes = nullptr;
    CudaEvent copied = nullptr;  // behind the last upload from this block
    CudaQueue queue = nullptr;   // of all of them
    int64_t used = 0;
  };

  // The current block if it has so much room, else the next one, as soon as the device has read it.
  Block& block_for(int64_t bytes, CudaQueue queue) {
    Block& current = blocks_[current_];
    if (current.bytes != nullptr && current.queue == queue && current.used + bytes <= kBlockBytes) return current;
    current_ = (current_ + 1) % blocks_.size();
    Block& next = blocks_[current_];
    if (next.bytes == nullptr) {
      next.copied = create_cuda_event();
      void* bytes_of_block = nullptr;
      check_cuda(cudaMallocHost(&bytes_of_block, static_cast<size_t>(kBlockBytes)), "cudaMallocHost");
      next.bytes = static_cast<std::byte*>(bytes_of_block);
    } else {
      wait_for_cuda_event(next.copied);
    }
    next.queue = queue;
    next.used = 0;
    return next;
  }

  std::array<Block, 4> blocks_;
  size_t current_ = 0;
};

}  // namespace

void upload_to_cuda(void* to, const void* from, int64_t bytes, CudaQueue queue) {
  thread_local Uploads uploads;
  uploads.copy(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes, queue);
}

}  // namespace shoal
