// core/base/lane.cpp: the fixed rotation.
#include "core/base/lane.h"

namespace shoal {

void run_lanes(std::span<Lane* const> lanes, std::vector<Task<void>> tasks) {
  SHOAL_CHECK_EQ(lanes.size(), tasks.size());
  for (size_t i = 0; i < lanes.size(); ++i) {
    lanes[i]->resume_at_ = tasks[i].handle();
    lanes[i]->waiting_for_ = nullptr;
  }
  size_t unfinished = tasks.size();
  while (unfinished > 0) {
    for (size_t i = 0; i < lanes.size(); ++i) {
      Lane& lane = *lanes[i];
      if (tasks[i].done()) continue;
      if (lane.waiting_for_ && !lane.waiting_for_->done()) {
        const double begin_s = lane.compute_.now_s();
        try {
          lane.waiting_for_->wait();
        } catch (...) {
          // Thrown again in the coroutine that waits, by await_resume.
        }
        lane.exposed_wire_seconds_ += lane.compute_.now_s() - begin_s;
      }
      lane.waiting_for_ = nullptr;
      lane.resume_at_.resume();
      if (tasks[i].done()) {
        --unfinished;
        tasks[i].take();  // rethrows; the other tasks are destroyed where they stand
      }
    }
  }
}

}  // namespace shoal
