// parallel/queue_delay.cpp: what the queue says to the host, and the host to the queue.
#include "parallel/queue_delay.h"

#include <algorithm>
#include <utility>

namespace shoal {

QueueDelay::QueueDelay(CudaQueue queue)
    : queue_(queue), passed_(create_cuda_count()), timer_(std::make_unique<TimerThread>()) {}

QueueDelay::~QueueDelay() {
  try {
    wait_for_cuda_queue(queue_);  // what it calls is of this
  } catch (const Error&) {
    // The device has failed, and whoever used it has been told.
  }
  timer_.reset();
  destroy_cuda_count(passed_);
}

void QueueDelay::before(const Round& round, std::shared_ptr<const GroupLinks> links) {
  under_way_ = std::make_shared<UnderWay>();
  under_way_->links = std::move(links);
  under_way_->round = round;
  call_in_queue_order(queue_, [one = under_way_] {
    try {
      one->sent_ns = one->links->post(one->round, steady_ns());
    } catch (const Error&) {
      // Too many messages under way: this one is not delayed.
    }
  });
}

void QueueDelay::after() {
  const uint32_t number = ++num_held_;
  const std::shared_ptr<UnderWay> one = std::move(under_way_);
  call_in_queue_order(queue_, [this, number, one] {
    int64_t due_ns = one->sent_ns;
    try {
      due_ns = std::max(due_ns, one->links->arrival(one->round));
    } catch (const Error&) {
      // A peer has failed, and NCCL's watch says so.
    }
    timer_->at(due_ns, [this, number] { passed_->store(number, std::memory_order_release); });
  });
  make_queue_wait(queue_, passed_, number);
}

}  // namespace shoal
