// tests/emulated_cuda/runtime_stream.cpp: streams and events of a device that is never behind.
#include <chrono>
#include <mutex>
#include <set>

#include "tests/emulated_cuda/runtime_state.h"

struct CUstream_st {
  unsigned flags;
  int priority;
};

struct CUevent_st {
  using Clock = std::chrono::steady_clock;
  unsigned flags = 0;
  bool recorded = false;
  Clock::time_point time{};
};

namespace emulated {
namespace {

constexpr int kLeastPriority = 0, kGreatestPriority = -5;

// Handles are looked up before they are followed: a destroyed one is an error, not a crash.
struct Handles {
  std::mutex mutex;
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
};
Handles& handles() {
  static auto* all = new Handles;
  return *all;
}

bool is_event(cudaEvent_t event) {
  Handles& all = handles();
  const std::lock_guard lock(all.mutex);
  return all.events.contains(event);
}

}  // namespace

bool is_stream(cudaStream_t stream) {
  if (stream == nullptr) return true;
  Handles& all = handles();
  const std::lock_guard lock(all.mutex);
  return all.streams.contains(stream);
}

}  // namespace emulated

using emulated::handles;
using emulated::is_event;
using emulated::is_stream;
using emulated::note;

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  if (stream == nullptr || flags > cudaStreamNonBlocking) return note(cudaErrorInvalidValue);
  *stream = new CUstream_st{flags, priority};
  const std::lock_guard lock(handles().mutex);
  handles().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::lock_guard lock(handles().mutex);
    if (handles().streams.erase(stream) == 0) return note(cudaErrorInvalidResourceHandle);
  }
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return note(is_stream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  if (flags != 0) return note(cudaErrorInvalidValue);
  return note(is_stream(stream) && is_event(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = emulated::kLeastPriority;
  if (greatest != nullptr) *greatest = emulated::kGreatestPriority;
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* user_data) {
  if (function == nullptr) return note(cudaErrorInvalidValue);
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  function(user_data);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (event == nullptr || flags > (cudaEventBlockingSync | cudaEventDisableTiming)) return note(cudaErrorInvalidValue);
  *event = new CUevent_st{.flags = flags};
  const std::lock_guard lock(handles().mutex);
  handles().events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  {
    const std::lock_guard lock(handles().mutex);
    if (handles().events.erase(event) == 0) return note(cudaErrorInvalidResourceHandle);
  }
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(handles().mutex);
  if (!handles().events.contains(event)) return note(cudaErrorInvalidResourceHandle);
  event->time = CUevent_st::Clock::now();
  event->recorded = true;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return note(is_event(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  if (ms == nullptr) return note(cudaErrorInvalidValue);
  const std::lock_guard lock(handles().mutex);
  for (cudaEvent_t event : {start, end}) {
    const bool timed =
        handles().events.contains(event) && event->recorded && (event->flags & cudaEventDisableTiming) == 0;
    if (!timed) return note(cudaErrorInvalidResourceHandle);
  }
  *ms = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}
