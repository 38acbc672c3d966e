// core/base/lane.cpp: the fixed rotation.
#include "core/base/lane.h"

#include <utility>

namespace shoal {

void Lane::suspend(std::coroutine_handle<> here, const OperationPtr& operation, WireKind kind, bool rotates) {
  if (operation) operation->post();  // may throw: then the coroutine goes on, and has not stopped here
  resume_at_ = here;
  waiting_for_ = operation;
  waiting_kind_ = kind;
  rotates_ = rotates;
  if (!rotates) return;
  ++wire_points_;
  if (bulk_ != nullptr) bulk_->post_one();
}

void Lane::defer(std::function<void()> work) {
  if (!deferring_) return work();
  deferred_.push_back({std::move(work), microbatch_, layer_});
}

void Lane::run_deferred(size_t count) {
  Tracer* const trace = compute_.trace();
  if (trace != nullptr) trace->enter_lane(index_);
  for (; count > 0; --count) {
    const Deferred next = std::move(deferred_.front());
    deferred_.pop_front();
    tell_place(next.microbatch, next.layer);
    next.work();
  }
  tell_place(microbatch_, layer_);
  if (trace != nullptr) trace->enter_lane(-1);
}

namespace {

// What goes wrong is thrown in the coroutine that waits, by await_resume.
void wait_quietly(Operation& operation) {
  try {
    operation.wait();
  } catch (...) {
  }
}

}  // namespace

// Where the scheduler blocks with nothing else to run, or on a GPU the compute queue, now or later, it is noted.
void Lane::wait_for_wire() {
  const OperationPtr operation = std::exchange(waiting_for_, nullptr);
  if (operation == nullptr) return;
  if (compute_.queue() != nullptr || !operation->done()) {
    compute_.times().begin_wait(waiting_kind_, index_);
    wait_quietly(*operation);
    compute_.times().end_wait();
  }
  if (compute_.trace() != nullptr) compute_.trace()->wire(waiting_kind_, operation->span(), index_);
}

void Lane::set_place(int microbatch, int layer) {
  if (microbatch >= 0) microbatch_ = microbatch;
  layer_ = layer;
  tell_place(microbatch_, layer_);
}

void Lane::leave_place() {
  microbatch_ = layer_ = -1;
  tell_place(microbatch_, layer_);
}

void Lane::tell_place(int microbatch, int layer) {
  Tracer* const trace = compute_.trace();
  if (trace == nullptr) return;
  trace->set_microbatch(index_, microbatch);
  trace->set_layer(index_, layer);
}

// To the next wire point where other lanes have their turn, or the end.
void Lane::resume() {
  Tracer* const trace = compute_.trace();
  if (trace != nullptr) trace->enter_lane(index_);
  do {
    wait_for_wire();
    rotates_ = true;
    resume_at_.resume();
  } while (!rotates_);
  if (trace != nullptr) trace->enter_lane(-1);
}

void run_lanes(std::span<Lane* const> lanes, std::vector<Task<void>> tasks) {
  SHOAL_CHECK_EQ(lanes.size(), tasks.size());
  for (size_t i = 0; i < lanes.size(); ++i) {
    lanes[i]->resume_at_ = tasks[i].handle();
    lanes[i]->waiting_for_ = nullptr;
    lanes[i]->deferred_.clear();  // left by one that failed
  }
  size_t unfinished = tasks.size();
  while (unfinished > 0) {
    for (size_t i = 0; i < lanes.size(); ++i) {
      if (tasks[i].done()) continue;
      Lane& lane = *lanes[i];
      lane.resume();
      const bool ended = tasks[i].done();
      if (ended) {
        --unfinished;
        tasks[i].take();  // rethrows; the other tasks are destroyed where they stand
      }
      for (Lane* const other : lanes) {
        if (other != &lane) other->run_deferred(other->deferred_.size());
      }
      const bool alone = ended || unfinished == 1;
      lane.run_deferred(alone ? lane.deferred_.size() : (lane.deferred_.size() + 1) / 2);
    }
  }
}

}  // namespace shoal
