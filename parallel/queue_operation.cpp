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

QueueOperation::QueueOperation(std::vector<Tensor> buffers, std::function<void()> check, WireSpan span)
    : buffers_(std::move(buffers)), check_(std::move(check)), span_(std::move(span)) {}

QueueOperation::~QueueOperation() {
  try {
    join();
  } catch (const Error&) {
    // The device has failed: whoever uses it next is told.
  }
}

void QueueOperation::join() {
  if (joined_) return;
  joined_ = true;
  for (const CudaQueue queue : queues_of(buffers_)) make_queue_wait(queue, span_.end.get());
  buffers_.clear();
}

bool QueueOperation::done() {
  if (joined_) return true;
  try {
    check_();
  } catch (const Error&) {
    return true;
  }
  if (!cuda_event_done(span_.end.get())) return false;
  join();
  return true;
}

void QueueOperation::wait() {
  join();
  check_();
}

}  // namespace shoal
