// parallel/queue_operation.cpp: one event, and who waits for it.
#include "parallel/queue_operation.h"

#include <algorithm>
#include <utility>

namespace shoal {

std::vector<CudaQueue> queues_of(const std::vector<Tensor>& buffers) {
  std::vector<CudaQueue> queues;
  for (const Tensor& buffer : buffers) {
    const CudaQueue queue = buffer.queue();
    if (queue != nullptr && std::ranges::find(queues, queue) == queues.end()) queues.push_back(queue);
  }
  return queues;
}

QueueOperation::QueueOperation(std::vector<Tensor> buffers, CudaQueue wire, std::function<void()> check,
                               const WireSpan& posted, std::shared_ptr<const std::atomic<int64_t>> completed_ns)
    : buffers_(std::move(buffers)),
      check_(std::move(check)),
      complete_(create_cuda_event()),
      posted_(posted),
      completed_ns_(std::move(completed_ns)) {
  record_cuda_event(complete_, wire);
}

QueueOperation::~QueueOperation() {
  try {
    join();
  } catch (const Error&) {
    // The device has failed: whoever uses it next is told.
  }
  destroy_cuda_event(complete_);
}

void QueueOperation::join() {
  if (joined_) return;
  joined_ = true;
  for (const CudaQueue queue : queues_of(buffers_)) make_queue_wait(queue, complete_);
  buffers_.clear();
}

bool QueueOperation::done() {
  if (joined_) return true;
  try {
    check_();
  } catch (const Error&) {
    return true;
  }
  if (!cuda_event_done(complete_)) return false;
  join();
  return true;
}

WireSpan QueueOperation::span() const {
  WireSpan span = posted_;
  span.completed_ns = completed_ns_ == nullptr ? 0 : completed_ns_->load(std::memory_order_acquire);
  return span.completed_ns > 0 ? span : WireSpan{};
}

void QueueOperation::wait() {
  join();
  check_();
}

}  // namespace shoal
