// core/base/cuda_host_wait.cpp: a queue that tells the host how far it has come, and one that waits for the host.
#include <cuda_runtime.h>

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "core/base/check.h"
#include "core/base/cuda_backend.h"
#include "core/base/cuda_check.h"

namespace shoal {

#ifdef SHOAL_CUDA_EMULATED

// The emulated device is never behind: the caller's thread is where its queues are.
void call_in_queue_order(CudaQueue /*queue*/, std::function<void()> call) { call(); }

CudaCount create_cuda_count() { return new std::atomic<uint32_t>(0); }
void destroy_cuda_count(CudaCount count) noexcept { delete count; }
void make_queue_wait(CudaQueue /*queue*/, CudaCount count, uint32_t value) {
  while (count->load(std::memory_order_acquire) < value) std::this_thread::sleep_for(std::chrono::microseconds(50));
}

#else

void call_in_queue_order(CudaQueue queue, std::function<void()> call) {
  auto owned = std::make_unique<std::function<void()>>(std::move(call));
  const auto run = [](void* data) {
    const std::unique_ptr<std::function<void()>> mine(static_cast<std::function<void()>*>(data));
    (*mine)();
  };
  check_cuda(cudaLaunchHostFunc(queue, run, owned.get()), "cudaLaunchHostFunc");
  owned.release();
}

CudaCount create_cuda_count() {
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);
  void* memory = nullptr;
  check_cuda(cudaHostAlloc(&memory, sizeof(uint32_t), cudaHostAllocMapped | cudaHostAllocPortable), "cudaHostAlloc");
  return new (memory) std::atomic<uint32_t>(0);
}

void destroy_cuda_count(CudaCount count) noexcept { cudaFreeHost(count); }

// The runtime has no such call; the driver has, and the runtime knows where.
void make_queue_wait(CudaQueue queue, CudaCount count, uint32_t value) {
  using WaitValue = int (*)(CudaQueue stream, unsigned long long address, uint32_t value, unsigned flags);
  constexpr unsigned kUntilAtLeast = 0;  // CU_STREAM_WAIT_VALUE_GEQ
  static const WaitValue wait_value = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    constexpr unsigned kVersion = 12000;
#if CUDART_VERSION >= 12050
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &found, kVersion, cudaEnableDefault, &result);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuStreamWaitValue32", &found, cudaEnableDefault, &result);
#endif
    check_cuda(error, "the search for cuStreamWaitValue32");
    if (found == nullptr) fail("CUDA: this driver has no cuStreamWaitValue32; install a newer one");
    return reinterpret_cast<WaitValue>(found);
  }();
  void* address = nullptr;
  check_cuda(cudaHostGetDevicePointer(&address, count, 0), "cudaHostGetDevicePointer");
  const int code = wait_value(queue, reinterpret_cast<unsigned long long>(address), value, kUntilAtLeast);
  if (code != 0) fail("CUDA: cuStreamWaitValue32 failed: CUresult {}", code);
}

#endif

}  // namespace shoal
