// core/base/cuda_event_pool.cpp: the last holder gives it back.
#include "core/base/cuda_event_pool.h"

#include <exception>

namespace shoal {

SharedCudaEvent CudaEventPool::record(CudaQueue queue) {
  CudaEvent unused = nullptr;
  if (unused_->events.empty()) {
    unused = create_cuda_event();
  } else {
    unused = unused_->events.back();
    unused_->events.pop_back();
  }
  const auto give_back = [pool = unused_](CudaEvent event) noexcept {
    try {
      pool->events.push_back(event);
    } catch (const std::exception&) {
      destroy_cuda_event(event);
    }
  };
  SharedCudaEvent event(unused, give_back);
  record_cuda_event(unused, queue);
  return event;
}

}  // namespace shoal
