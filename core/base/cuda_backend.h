// core/base/cuda_backend.h: what the house asks of NVIDIA's runtime, spelt without its headers.
//
// A build without CUDA has the same functions: cuda_device_count() is 0 there and the others throw. So nobody above
// needs to know how it was built. Errors name the call and what it was for; an error that a kernel left behind surfaces
// at the next call (CUDA_LAUNCH_BLOCKING=1 puts it where it belongs).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

struct CUstream_st;  // cudaStream_t points to one
struct CUevent_st;

namespace shoal {

using CudaQueue = CUstream_st*;
using CudaEvent = CUevent_st*;

// Is the CUDA backend in this build?
bool cuda_is_built();
// Devices that can be used: 0 without a driver, too.
int cuda_device_count();

// Of this thread: device `index` of this machine. Throws a sentence that says what to do: no such device, a driver
// older than the runtime, an architecture that the kernels were not built for.
void use_cuda_device(int index);
int current_cuda_device();
// Tries to use it; the sentence of what stands against it, or empty.
std::string why_no_cuda(int index);

struct CudaDevice {
  std::string name;     // "NVIDIA H200"
  std::string pci_bus;  // "0000:3b:00": its place in this machine
  int major = 0, minor = 0;
  int num_multiprocessors = 0;
  int64_t memory_bytes = 0;
  int driver_version = 0, runtime_version = 0;  // 13000: 13.0
};
CudaDevice describe_cuda_device(int index);

// A stream of this thread's device. Work of one queue runs in order; queues run side by side, and after an event. What
// is queued urgently comes first where the device has both to begin.
enum class QueueUrgency { kUsual, kUrgent };
CudaQueue create_cuda_queue(QueueUrgency urgency = QueueUrgency::kUsual);
void destroy_cuda_queue(CudaQueue queue) noexcept;
void wait_for_cuda_queue(CudaQueue queue);  // blocks the caller

// Memory from the device's pool, in the order of `queue`: a block that is freed may be given out again to what is
// queued behind, without waiting. Null when the device has no more.
void* allocate_cuda(int64_t bytes, CudaQueue queue);
void free_cuda(void* block, CudaQueue queue) noexcept;

// Rows of `width_bytes`, `from_pitch` and `to_pitch` bytes apart, between any two of host and device, in queue order.
// Host memory is the caller's again when copy_rows_cuda returns (`waits`), or when the queue has come so far.
struct RowsOfBytes {
  void* to = nullptr;
  int64_t to_pitch = 0;
  const void* from = nullptr;
  int64_t from_pitch = 0;
  int64_t width_bytes = 0, rows = 0;
};
enum class CopyWait { kReturnsAtOnce, kWaits };
void copy_rows_cuda(const RowsOfBytes& rows, CudaQueue queue, CopyWait wait);
// Host memory to the device, in queue order, without waiting for the queue; `from` is the caller's again at once.
void upload_to_cuda(void* to, const void* from, int64_t bytes, CudaQueue queue);
// Zeros in `rows` rows of `width_bytes`, `pitch` bytes apart.
void zero_rows_cuda(void* to, int64_t pitch, int64_t width_bytes, int64_t rows, CudaQueue queue);

CudaEvent create_cuda_event();
void destroy_cuda_event(CudaEvent event) noexcept;
void record_cuda_event(CudaEvent event, CudaQueue queue);
void make_queue_wait(CudaQueue queue, CudaEvent event);
bool cuda_event_done(CudaEvent event);
void wait_for_cuda_event(CudaEvent event);  // blocks the caller
// Of the device, between two events that are done.
double cuda_seconds_between(CudaEvent begin, CudaEvent end);

// `call` runs on a thread of CUDA's when the queue has come so far, which waits for it. It must neither call CUDA nor
// block nor throw.
void call_in_queue_order(CudaQueue queue, std::function<void()> call);
// A number in the host's memory that a queue can wait for: until it is at least `value`.
using CudaCount = std::atomic<uint32_t>*;
CudaCount create_cuda_count();
void destroy_cuda_count(CudaCount count) noexcept;
void make_queue_wait(CudaQueue queue, CudaCount count, uint32_t value);

}  // namespace shoal
