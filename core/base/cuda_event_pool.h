// core/base/cuda_event_pool.h: CUDA events that several may hold, and that are used again.
#pragma once

#include <memory>
#include <vector>

#include "core/base/cuda_backend.h"

namespace shoal {

using SharedCudaEvent = std::shared_ptr<CUevent_st>;

// Of one thread, as all that hold its events are. They may outlive it.
class CudaEventPool {
 public:
  // Recorded on `queue`, whose waits for it are as of now: they see no later use.
  SharedCudaEvent record(CudaQueue queue);

 private:
  struct Unused {
    ~Unused() {
      for (const CudaEvent event : events) destroy_cuda_event(event);
    }
    std::vector<CudaEvent> events;
  };
  std::shared_ptr<Unused> unused_ = std::make_shared<Unused>();
};

}  // namespace shoal
