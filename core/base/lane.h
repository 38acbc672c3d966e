// core/base/lane.h: one microbatch in flight, and the rotation that runs several of them.
//
// All ranks run the same program and lanes are resumed in fixed rotation, switching at every wire point, never by "who
// is ready first": so all ranks post the same operations in the same order. All lanes share one compute stream.
#pragma once

#include <coroutine>
#include <memory>
#include <span>
#include <vector>

#include "core/base/stream.h"
#include "core/base/task.h"
#include "core/base/wire.h"

namespace shoal {

// Something posted to the wire (a collective). Shares ownership of its buffers until complete.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual bool done() = 0;
  // Blocks until complete; throws what went wrong on the wire.
  virtual void wait() = 0;
  // When it was under way, once complete; zeros where that is not known.
  virtual WireSpan span() const { return {}; }
};
using OperationPtr = std::shared_ptr<Operation>;

class Lane {
 public:
  Lane(Stream& compute, int index) : compute_(compute), index_(index) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  Stream& compute() const { return compute_; }
  int index() const { return index_; }

  // `co_await lane.wire(operation)`: leaves to the scheduler's loop, always, even when the operation is complete
  // (chains of symmetric transfer would overflow the stack), and comes back when it is complete.
  struct Wire {
    Lane& lane;
    OperationPtr operation;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> here) {
      lane.resume_at_ = here;
      lane.waiting_for_ = operation;
    }
    void await_resume() {
      if (operation) operation->wait();  // throws in the coroutine that waited
    }
  };
  Wire wire(OperationPtr operation) { return Wire{*this, std::move(operation)}; }

  // Seconds this lane's scheduler blocked on the wire with nothing else to run.
  double exposed_wire_seconds() const { return exposed_wire_seconds_; }

 private:
  friend void run_lanes(std::span<Lane* const> lanes, std::vector<Task<void>> tasks);
  Stream& compute_;
  int index_;
  std::coroutine_handle<> resume_at_;
  OperationPtr waiting_for_;
  double exposed_wire_seconds_ = 0;
};

// Runs tasks[i] on lanes[i] until all are done. The first exception leaves after every task has been abandoned.
void run_lanes(std::span<Lane* const> lanes, std::vector<Task<void>> tasks);

// Runs one task to its end on one lane and returns its value.
template <class T>
T run_lane(Lane& lane, Task<T> task) {
  std::optional<T> result;
  auto store_result = [](Task<T> inner, std::optional<T>& out) -> Task<void> {
    out.emplace(co_await std::move(inner));
  };
  Lane* const lanes[] = {&lane};
  std::vector<Task<void>> tasks;
  tasks.push_back(store_result(std::move(task), result));
  run_lanes(lanes, std::move(tasks));
  return std::move(*result);
}
inline void run_lane(Lane& lane, Task<void> task) {
  Lane* const lanes[] = {&lane};
  std::vector<Task<void>> tasks;
  tasks.push_back(std::move(task));
  run_lanes(lanes, std::move(tasks));
}

}  // namespace shoal
