// core/base/stream.cpp: the account of work.
#include "core/base/stream.h"

#include <chrono>

#include "core/base/nvtx.h"
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

namespace {

double steady_now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

Stream::~Stream() {
  for (const TimedOp& timed : timed_) {
    destroy_cuda_event(timed.begin);
    destroy_cuda_event(timed.end);
  }
}

void Stream::fail_without_cuda(const Work& work) {
  fail("{} does not run on a GPU yet; set run.device to CPU", work.op);
}

void Stream::begin_op(const Work& work) {
  push_nvtx_range(work.op);
  if (!profile_) return;
  if (device() == DeviceKind::kCpu) begin_s_ = steady_now_s();
  if (device() != DeviceKind::kCuda) return;
  timed_.push_back({work, create_cuda_event(), create_cuda_event()});
  record_cuda_event(timed_.back().begin, queue());
}

void Stream::end_op(const Work& work) {
  pop_nvtx_range();
  WorkTotals& totals = work_[work.op];
  totals.model_flops += work.model_flops;
  totals.executed_flops += work.executed_flops;
  totals.bytes += work.bytes;
  ++totals.calls;
  model_flops_ += work.model_flops;
  if (clock_ != nullptr) totals.seconds += clock_->run(work);
  if (!profile_) return;
  if (device() == DeviceKind::kCpu) add_timed(work, steady_now_s() - begin_s_);
  if (device() == DeviceKind::kCuda) record_cuda_event(timed_.back().end, queue());
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
}

double Stream::now_s() const { return clock_ != nullptr ? clock_->now_s() : steady_now_s(); }

void Stream::reset_work() {
  work();  // those that are timed belong to what is forgotten
  work_.clear();
  timed_work_.clear();
  model_flops_ = 0;
}

}  // namespace shoal
