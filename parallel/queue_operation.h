// parallel/queue_operation.h: an operation that a device carries out on a queue of its own, beside the compute queue.
//
//   compute queue   … writes `in` ─┐ (1)                  ┌ (2) reads `out` …
//   wire's queue                   └─ moves bytes, sums ──┘
//
// (1) when it is posted, the wire's queue waits for all that was queued to compute before; (2) whoever waits for the
// operation makes the compute queue wait for the wire, not the host. Only reading results on the host blocks it.
//
// Memory comes from a pool in the compute queue's order, which knows nothing of the wire's queue: a block that is freed
// is given out again to what is queued to compute next. So the operation holds its buffers until (2) is queued; what is
// computed into the block afterwards is behind it. One that nobody waits for queues (2) when it is let go.
#pragma once

#include <functional>
#include <vector>

#include "core/base/lane.h"
#include "core/base/tensor.h"

namespace shoal {

// The queues in whose order these tensors' memory is used, each once.
std::vector<CudaQueue> queues_of(const std::vector<Tensor>& buffers);

class QueueOperation final : public Operation {
 public:
  // Of what is on the wire so far, with these buffers. `check` throws when the wire has failed. `span`: by events; its
  // end is behind all of it.
  QueueOperation(std::vector<Tensor> buffers, std::function<void()> check, WireSpan span);
  ~QueueOperation() override;
  QueueOperation(const QueueOperation&) = delete;
  QueueOperation& operator=(const QueueOperation&) = delete;

  // The device has come so far, or somebody has waited, or the wire has failed.
  bool done() override;
  // Does not block: what is queued to compute from now on comes behind.
  void wait() override;
  WireSpan span() const override { return span_; }

 private:
  void join();

  std::vector<Tensor> buffers_;
  std::function<void()> check_;
  WireSpan span_;
  bool joined_ = false;
};

}  // namespace shoal
