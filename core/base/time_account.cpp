// core/base/time_account.cpp: notes, and what they add up to.
#include "core/base/time_account.h"

#include <cmath>
#include <numeric>

#include "core/base/check.h"
#include "core/base/simulated_clock.h"
#include "core/base/steady_clock.h"
#include "core/base/trace.h"

namespace shoal {

double TimeSums::waits_total_s() const { return std::accumulate(waits_s.begin(), waits_s.end(), 0.0); }

TimeSums TimeSums::operator-(const TimeSums& before) const {
  TimeSums since = *this;
  since.ops_s -= before.ops_s;
  for (size_t kind = 0; kind < waits_s.size(); ++kind) since.waits_s[kind] -= before.waits_s[kind];
  return since;
}

int64_t TimeAccount::now_ns() const { return clock_ != nullptr ? std::llround(clock_->now_s() * 1e9) : steady_ns(); }

int64_t TimeAccount::begin_op(const Work& work) {
  if (device_ == DeviceKind::kCpu) return steady_ns();
  if (device_ == DeviceKind::kCuda && (trace_ != nullptr || state_ != kOps)) {
    const SharedCudaEvent& begin = mark(kOps);
    if (trace_ != nullptr) trace_->begin_queue_op(work, begin);
  }
  return 0;
}

int64_t TimeAccount::end_op(const Work& work, int64_t begin_ns) {
  if (device_ == DeviceKind::kCpu) {
    const int64_t end_ns = steady_ns();
    ops_ns_ += end_ns - begin_ns;
    if (trace_ != nullptr) trace_->op(work, begin_ns, end_ns);
    return end_ns - begin_ns;
  }
  if (device_ == DeviceKind::kCuda && (trace_ != nullptr || waits())) {
    const SharedCudaEvent& end = mark(waits() ? waiting_for_ : kNothing);
    if (trace_ != nullptr) trace_->end_queue(end);
  }
  return 0;
}

void TimeAccount::drop_op() noexcept {
  if (device_ != DeviceKind::kCuda) return;
  if (trace_ != nullptr) trace_->drop_queue();
  try {
    mark(waits() ? waiting_for_ : kNothing);
  } catch (...) {
    // The device has failed, and whoever uses it next is told.
  }
}

void TimeAccount::begin_wait(WireKind kind, int lane) {
  SHOAL_CHECK(!waits(), "a wait inside a wait");
  if (device_ == DeviceKind::kCuda) {
    const SharedCudaEvent& begin = mark(static_cast<int>(kind));
    if (trace_ != nullptr) trace_->begin_queue_wait(kind, lane, begin);
  } else {
    ops_before_wait_ns_ = ops_ns_;
    wait_begin_ns_ = now_ns();
  }
  waiting_for_ = static_cast<int>(kind);
  waiting_lane_ = lane;
}

void TimeAccount::end_wait() {
  SHOAL_CHECK(waits(), "no wait to end");
  const auto kind = static_cast<WireKind>(std::exchange(waiting_for_, -1));
  if (device_ == DeviceKind::kCuda) {
    const SharedCudaEvent& end = mark(kNothing);
    if (trace_ != nullptr) trace_->end_queue(end);
    return;
  }
  const int64_t end_ns = now_ns();
  waits_ns_[static_cast<size_t>(kind)] += end_ns - wait_begin_ns_ - (ops_ns_ - ops_before_wait_ns_);
  if (trace_ != nullptr) trace_->wait(kind, wait_begin_ns_, end_ns, waiting_lane_);
}

void TimeAccount::begin_host_read() {
  if (device_ == DeviceKind::kCuda && state_ == kOps && !waits()) mark(kNothing);
}

const SharedCudaEvent& TimeAccount::mark(int state) {
  constexpr size_t kMostMarks = 1 << 15;  // where nobody asks (evaluation), old ones are read at times
  if (trace_ == nullptr && marks_.size() >= kMostMarks) read_marks();
  marks_.push_back({state, events_.record(queue_)});
  state_ = state;
  return marks_.back().event;
}

void TimeAccount::read_marks() {
  if (marks_.empty()) return;
  wait_for_cuda_event(marks_.back().event.get());
  for (size_t i = 0; i + 1 < marks_.size(); ++i) {
    queue_s_[static_cast<size_t>(marks_[i].state)] +=
        cuda_seconds_between(marks_[i].event.get(), marks_[i + 1].event.get());
  }
  marks_.erase(marks_.begin(), marks_.end() - 1);
}

TimeSums TimeAccount::sums() {
  const auto seconds = [](int64_t ns) { return static_cast<double>(ns) / 1e9; };
  TimeSums sums;
  if (device_ == DeviceKind::kCuda) {
    if (!marks_.empty()) mark(state_);
    read_marks();
    sums.ops_s = queue_s_[kOps];
    for (size_t kind = 0; kind < kNumWireKinds; ++kind) sums.waits_s[kind] = queue_s_[kind];
    return sums;
  }
  sums.ops_s = seconds(ops_ns_);
  for (size_t kind = 0; kind < kNumWireKinds; ++kind) sums.waits_s[kind] = seconds(waits_ns_[kind]);
  return sums;
}

}  // namespace shoal
