// core/base/lane.h: one microbatch in flight, and the rotation that runs several of them.
//
// All ranks run the same program and lanes are resumed in fixed rotation, switching at every wire point, never by "who
// is ready first": so all ranks post the same operations in the same order. All lanes share one compute stream.
#pragma once

#include <coroutine>
#include <functional>
#include <span>
#include <vector>

#include "core/base/operation.h"
#include "core/base/post_queue.h"
#include "core/base/stream.h"
#include "core/base/task.h"
#include "core/base/trace.h"

namespace shoal {

class Lane {
 public:
  Lane(Stream& compute, int index) : compute_(compute), index_(index) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  Stream& compute() const { return compute_; }
  int index() const { return index_; }
  // At every wire point one transfer of `bulk` is posted, behind what this lane waits for. It must outlive that.
  void set_bulk(PostQueue* bulk) { bulk_ = bulk; }

  struct Wire {
    Lane& lane;
    OperationPtr operation;
    WireKind kind;
    bool rotates;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> here) { lane.suspend(here, operation, kind, rotates); }
    void await_resume() {
      if (operation) operation->wait();  // throws in the coroutine that waited
    }
  };
  // `co_await lane.wire(operation, kind)`: leaves to the scheduler's loop, always, even when the operation is complete
  // (chains of symmetric transfer would overflow the stack); the other lanes have their turn; comes back when it is
  // complete.
  Wire wire(OperationPtr operation, WireKind kind) { return Wire{*this, std::move(operation), kind, true}; }
  // The same without giving the other lanes a turn: for small messages that stand between a lane and its next large
  // one. What the others could compute meanwhile would delay that one.
  Wire wire_in_place(OperationPtr operation, WireKind kind) { return Wire{*this, std::move(operation), kind, false}; }

  // Work that nobody on this lane waits for (weight gradients). It runs at once; or, where deferring() is on, behind
  // what the lane posts next, first in, first out: half of what there is at the lane's own wire point, the rest at that
  // of the lane that runs beside it, all of it where the lane is alone, or ends. So segments of both lanes become about
  // equally long. What it reads must be its own: the coroutine may be gone.
  void defer(std::function<void()> work);
  bool deferring() const { return deferring_; }
  void set_deferring(bool on) { deferring_ = on; }

  // Wire points passed, those in place apart.
  int64_t wire_points() const { return wire_points_; }

  // For a trace: what the lane does from now on belongs to this microbatch (-1: the same as before) and layer (-1:
  // none). Deferred work belongs where it was deferred.
  void set_place(int microbatch, int layer);
  // To no microbatch and no layer.
  void leave_place();

 private:
  friend void run_lanes(std::span<Lane* const> lanes, std::vector<Task<void>> tasks);
  struct Deferred {
    std::function<void()> work;
    int microbatch, layer;
  };

  void suspend(std::coroutine_handle<> here, const OperationPtr& operation, WireKind kind, bool rotates);
  void wait_for_wire();
  void resume();
  void run_deferred(size_t count);
  void tell_place(int microbatch, int layer);

  Stream& compute_;
  int index_;
  PostQueue* bulk_ = nullptr;
  std::coroutine_handle<> resume_at_;
  OperationPtr waiting_for_;
  WireKind waiting_kind_ = WireKind::kOther;
  bool rotates_ = true;
  bool deferring_ = false;
  std::deque<Deferred> deferred_;
  int microbatch_ = -1, layer_ = -1;
  int64_t wire_points_ = 0;
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
