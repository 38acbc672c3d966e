// core/base/lane.cpp: the fixed rotation.
#include "core/base/lane.h"

namespace shoal {

void Lane::suspend(std::coroutine_handle<> here, const OperationPtr& operation, WireKind kind, bool rotates) {
  resume_at_ = here;
  waiting_for_ = operation;
  waiting_kind_ = kind;
  rotates_ = rotates;
  if (operation) operation->post();
  if (!rotates) return;
  ++wire_points_;
  if (bulk_ != nullptr) bulk_->post_one();
}

void Lane::defer(std::function<void()> work) {
  if (!deferring_) return work();
  deferred_.push_back(std::move(work));
}

void Lane::run_deferred() {
  while (!deferred_.empty()) {
    const std::function<void()> work = std::move(deferred_.front());
    deferred_.pop_front();
    work();
  }
}

void Lane::wait_for_wire() {
  if (waiting_for_ && !waiting_for_->done()) {
    const double begin_s = compute_.now_s();
    try {
      waiting_for_->wait();
    } catch (...) {
      // Thrown again in the coroutine that waits, by await_resume.
    }
    exposed_wire_seconds_[static_cast<size_t>(waiting_kind_)] += compute_.now_s() - begin_s;
  }
  waiting_for_ = nullptr;
}

// To the next wire point where other lanes have their turn, or the end.
void Lane::resume() {
  do {
    wait_for_wire();
    rotates_ = true;
    resume_at_.resume();
  } while (!rotates_);
}

void run_lanes(std::span<Lane* const> lanes, std::vector<Task<void>> tasks) {
  SHOAL_CHECK_EQ(lanes.size(), tasks.size());
  for (size_t i = 0; i < lanes.size(); ++i) {
    lanes[i]->resume_at_ = tasks[i].handle();
    lanes[i]->waiting_for_ = nullptr;
  }
  size_t unfinished = tasks.size();
  while (unfinished > 0) {
    for (size_t i = 0; i < lanes.size(); ++i) {
      if (tasks[i].done()) continue;
      lanes[i]->resume();
      if (tasks[i].done()) {
        --unfinished;
        tasks[i].take();  // rethrows; the other tasks are destroyed where they stand
      }
    }
  }
}

}  // namespace shoal
