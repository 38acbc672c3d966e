// core/base/stream.cpp: the account of work.
#include "core/base/stream.h"

#include "core/base/simulated_clock.h"

namespace shoal {

std::string_view name_of(WorkKind kind) {
  switch (kind) {
    case WorkKind::kGemm: return "gemm";
    case WorkKind::kAttention: return "attention";
    case WorkKind::kElementwise: return "elementwise";
    case WorkKind::kMove: return "move";
    case WorkKind::kOptimizer: return "optimizer";
  }
  return "?";
}

Stream::~Stream() {
  for (const TimedOp& timed : timed_) {
    destroy_cuda_event(timed.begin);
    destroy_cuda_event(timed.end);
  }
}

void Stream::fail_without_cuda(const Work& work) {
  fail("{} does not run on a GPU yet; set run.device to CPU", work.op);
}

int64_t Stream::begin_op(const Work& work) {
  if (device() == DeviceKind::kCuda && profile_) {
    timed_.push_back({work, create_cuda_event(), create_cuda_event()});
    record_cuda_event(timed_.back().begin, queue());
  }
  return times_.begin_op(work);
}

void Stream::end_op(const Work& work, int64_t begin_ns) {
  const int64_t taken_ns = times_.end_op(work, begin_ns);
  WorkTotals& totals = work_[work.op];
  totals.model_flops += work.model_flops;
  totals.executed_flops += work.executed_flops;
  totals.bytes += work.bytes;
  ++totals.calls;
  model_flops_ += work.model_flops;
  if (clock_ != nullptr) totals.seconds += clock_->run(work);
  if (!profile_) return;
  if (device() == DeviceKind::kCpu) add_timed(work, static_cast<double>(taken_ns) * 1e-9);
  if (device() == DeviceKind::kCuda) record_cuda_event(timed_.back().end, queue());
}

// An event that was never recorded could not be read.
void Stream::abandon_op() noexcept {
  times_.drop_op();
  if (device() == DeviceKind::kCuda && profile_) {
    destroy_cuda_event(timed_.back().begin);
    destroy_cuda_event(timed_.back().end);
    timed_.pop_back();
  }
}

void Stream::add_timed(const Work& work, double seconds) {
  work_[work.op].seconds += seconds;
  SizeTotals& totals = timed_work_[{work.op, work.kind, work.precision, work.executed_flops, work.bytes}];
  totals.seconds += seconds;
  ++totals.calls;
}

const WorkByOp& Stream::work() {
  for (const TimedOp& timed : timed_) {
    wait_for_cuda_event(timed.end);
    add_timed(timed.work, cuda_seconds_between(timed.begin, timed.end));
    destroy_cuda_event(timed.begin);
    destroy_cuda_event(timed.end);
  }
  timed_.clear();
  return work_;
}

const WorkBySize& Stream::timed_work() {
  work();
  return timed_work_;
}

void Stream::set_clock(SimulatedClock* clock) {
  SHOAL_CHECK(clock == nullptr || device() == DeviceKind::kSimulated, "a clock for a {}", name_of(device()));
  clock_ = clock;
  times_.set_clock(clock);
}

void Stream::reset_work() {
  work();  // those that are timed belong to what is forgotten
  work_.clear();
  timed_work_.clear();
  model_flops_ = 0;
}

}  // namespace shoal
