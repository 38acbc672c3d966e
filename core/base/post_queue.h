// core/base/post_queue.h: transfers whose turn has not come: gradients and weights, behind what somebody waits for.
//
// The wire is the order of posting. What nobody needs at once waits here, and one of it is posted at each wire point of
// a lane, behind the operation that the lane waits for (lane.h). All ranks run the same program, so all post alike.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "core/base/operation.h"

namespace shoal {

class PostQueue {
 public:
  PostQueue() = default;
  PostQueue(const PostQueue&) = delete;
  PostQueue& operator=(const PostQueue&) = delete;

  // `post` is called once, after those added before it: by post_one() or post_all(), or when somebody asks for the
  // operation that is returned (Operation::post, wait). It may return null: nothing to wait for.
  OperationPtr add(std::function<OperationPtr()> post);
  void post_one();
  void post_all();
  bool empty() const { return queued_->empty(); }

 private:
  class Queued;
  using Queue = std::deque<std::shared_ptr<Queued>>;
  static void post_front(Queue& queue);

  std::shared_ptr<Queue> queued_ = std::make_shared<Queue>();  // operations may outlive the queue
};

}  // namespace shoal
