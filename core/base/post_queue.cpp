// core/base/post_queue.cpp: first in, first posted.
#include "core/base/post_queue.h"

#include <exception>
#include <utility>

#include "core/base/check.h"

namespace shoal {

class PostQueue::Queued final : public Operation {
 public:
  Queued(std::function<OperationPtr()> post, std::weak_ptr<Queue> queue)
      : post_(std::move(post)), queue_(std::move(queue)) {}

  void post() override {
    if (is_posted_) return;
    const std::shared_ptr<Queue> queue = queue_.lock();
    SHOAL_CHECK(queue != nullptr, "waited for a transfer whose queue is gone");
    while (!is_posted_) post_front(*queue);
    // Whoever needs this will soon need the next: it travels meanwhile.
    if (!queue->empty()) post_front(*queue);
  }
  bool done() override { return is_posted_ && (operation_ == nullptr || operation_->done()); }
  void wait() override {
    post();
    if (error_) std::rethrow_exception(error_);
    if (operation_) operation_->wait();
  }
  WireSpan span() const override { return operation_ ? operation_->span() : WireSpan{}; }

  void start() {
    is_posted_ = true;
    try {
      operation_ = std::exchange(post_, {})();
    } catch (...) {
      error_ = std::current_exception();
      throw;
    }
  }

 private:
  std::function<OperationPtr()> post_;
  std::weak_ptr<Queue> queue_;
  bool is_posted_ = false;
  OperationPtr operation_;
  std::exception_ptr error_;  // of posting
};

OperationPtr PostQueue::add(std::function<OperationPtr()> post) {
  queued_->push_back(std::make_shared<Queued>(std::move(post), queued_));
  return queued_->back();
}

void PostQueue::post_front(Queue& queue) {
  SHOAL_CHECK(!queue.empty(), "a transfer that was never queued");
  const std::shared_ptr<Queued> next = std::move(queue.front());
  queue.pop_front();
  next->start();
}

void PostQueue::post_one() {
  if (!queued_->empty()) post_front(*queued_);
}

void PostQueue::post_all() {
  while (!queued_->empty()) post_front(*queued_);
}

}  // namespace shoal
