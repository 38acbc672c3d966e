// core/base/trace.cpp: records in order, and a GPU's clock on the host's.
#include "core/base/trace.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "core/base/check.h"

namespace shoal {

int64_t trace_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

namespace {

// A step of a model that fits on one machine has a few thousand.
constexpr size_t kRoomForRecords = 1 << 14;

TraceRecord op_record(const Work& work) {
  TraceRecord record;
  record.name = work.op;
  record.flops = work.executed_flops;
  record.bytes = work.bytes;
  record.track = TraceTrack::kCompute;
  record.kind = static_cast<uint8_t>(work.kind);
  return record;
}

TraceRecord wire_record(TraceTrack track, WireKind kind) {
  TraceRecord record;
  record.name = name_of(kind).data();  // a literal, so it ends with a zero
  record.track = track;
  record.kind = static_cast<uint8_t>(kind);
  return record;
}

bool is_on_queue(TraceTrack track) { return track == TraceTrack::kOptimizer; }

}  // namespace

Tracer::~Tracer() {
  for (const Pending& pending : pending_) {
    destroy_cuda_event(pending.begin);
    destroy_cuda_event(pending.end);
  }
  for (const CudaEvent event : free_events_) destroy_cuda_event(event);
  if (anchor_.event != nullptr) destroy_cuda_event(anchor_.event);
}

void Tracer::start() {
  records_.clear();
  records_.reserve(kRoomForRecords);
  open_.clear();
  if (!on_queue()) return;
  wait_for_cuda_queue(queue_);
  for (const Pending& pending : pending_) free_events_.insert(free_events_.end(), {pending.begin, pending.end});
  pending_.clear();
  if (anchor_.event != nullptr) free_events_.push_back(std::exchange(anchor_.event, nullptr));
  anchor_ = measure_anchor();
}

std::vector<TraceRecord> Tracer::take() {
  if (on_queue()) resolve_pending();
  std::vector<TraceRecord> taken = std::exchange(records_, {});
  records_.reserve(kRoomForRecords);
  // What begins together: the longer one is around the shorter.
  std::ranges::stable_sort(taken, [](const TraceRecord& a, const TraceRecord& b) {
    return std::pair(a.begin_ns, -a.end_ns) < std::pair(b.begin_ns, -b.end_ns);
  });
  return taken;
}

Tracer::Place& Tracer::place_of(int lane) {
  SHOAL_CHECK(lane >= 0, "lane {}", lane);
  if (places_.size() <= static_cast<size_t>(lane)) places_.resize(static_cast<size_t>(lane) + 1);
  return places_[static_cast<size_t>(lane)];
}

void Tracer::enter_lane(int lane) { lane_ = lane; }

void Tracer::place(TraceRecord& record, int lane) const {
  record.lane = lane;
  if (lane < 0 || static_cast<size_t>(lane) >= places_.size()) return;
  record.microbatch = places_[static_cast<size_t>(lane)].microbatch;
  record.layer = places_[static_cast<size_t>(lane)].layer;
}

void Tracer::op(const Work& work, int64_t begin_ns, int64_t end_ns) {
  TraceRecord record = op_record(work);
  record.begin_ns = begin_ns;
  record.end_ns = end_ns;
  place(record, lane_);
  records_.push_back(record);
}

void Tracer::wire(WireKind kind, const WireSpan& span, int lane) {
  if (span.posted_ns == 0) return;
  TraceRecord record = wire_record(TraceTrack::kWire, kind);
  record.begin_ns = span.posted_ns;
  record.end_ns = std::max(span.posted_ns, span.completed_ns);
  record.bytes = static_cast<double>(span.bytes);
  record.group = span.group;
  record.tag = span.tag;
  place(record, lane);
  records_.push_back(record);
}

void Tracer::wait(WireKind kind, int64_t begin_ns, int64_t end_ns, int lane) {
  TraceRecord record = wire_record(TraceTrack::kWait, kind);
  record.begin_ns = begin_ns;
  record.end_ns = end_ns;
  place(record, lane);
  records_.push_back(record);
}

void Tracer::section(TraceTrack track, const char* name, int64_t begin_ns, int64_t end_ns, int64_t number) {
  TraceRecord record;
  record.tag = number;
  record.name = name;
  record.begin_ns = begin_ns;
  record.end_ns = end_ns;
  record.track = track;
  records_.push_back(record);
}

void Tracer::begin_queue_op(const Work& work) { begin_queue(op_record(work), lane_); }

void Tracer::queue_wait_begin(WireKind kind, int lane) { begin_queue(wire_record(TraceTrack::kWait, kind), lane); }

void Tracer::queue_section_begin(TraceTrack track, const char* name) {
  TraceRecord record;
  record.name = name;
  record.track = track;
  begin_queue(record, -1);
}

void Tracer::begin_queue(TraceRecord record, int lane) {
  place(record, lane);
  pending_.push_back({record, take_event(), nullptr});
  open_.push_back(pending_.size() - 1);
  record_cuda_event(pending_.back().begin, queue_);
}

void Tracer::end_queue() {
  SHOAL_CHECK(!open_.empty(), "nothing was begun on the queue");
  Pending& pending = pending_[open_.back()];
  pending.end = take_event();
  record_cuda_event(pending.end, queue_);
  open_.pop_back();
}

// Its record stays, without an end: resolve_pending() passes over it.
void Tracer::drop_queue() noexcept {
  if (!open_.empty()) open_.pop_back();
}

CudaEvent Tracer::take_event() {
  if (free_events_.empty()) return create_cuda_event();
  const CudaEvent event = free_events_.back();
  free_events_.pop_back();
  return event;
}

// The event happens between two looks at the host's clock; of some tries the one that leaves the least open.
Tracer::Anchor Tracer::measure_anchor() {
  constexpr int kTries = 8;
  wait_for_cuda_queue(queue_);
  Anchor best;
  for (int i = 0; i < kTries; ++i) {
    const CudaEvent event = take_event();
    const int64_t before_ns = trace_now_ns();
    record_cuda_event(event, queue_);
    while (!cuda_event_done(event)) {
    }
    const int64_t after_ns = trace_now_ns();
    const Anchor found{event, before_ns + (after_ns - before_ns) / 2, (after_ns - before_ns + 1) / 2};
    if (best.event != nullptr && best.error_ns <= found.error_ns) {
      free_events_.push_back(event);
      continue;
    }
    if (best.event != nullptr) free_events_.push_back(best.event);
    best = found;
  }
  return best;
}

void Tracer::resolve_pending() {
  SHOAL_CHECK(anchor_.event != nullptr, "take() without start()");
  const Anchor last = measure_anchor();
  const double device_s = cuda_seconds_between(anchor_.event, last.event);
  const auto host_ns = static_cast<double>(last.host_ns - anchor_.host_ns);
  const auto time_of = [&](CudaEvent event) {
    const double share = device_s > 0 ? cuda_seconds_between(anchor_.event, event) / device_s : 0;
    return anchor_.host_ns + static_cast<int64_t>(share * host_ns);
  };
  for (Pending& pending : pending_) {
    if (pending.end != nullptr) {
      pending.record.begin_ns = time_of(pending.begin);
      pending.record.end_ns = std::max(pending.record.begin_ns, time_of(pending.end));
      records_.push_back(pending.record);
      free_events_.push_back(pending.end);
    }
    free_events_.push_back(pending.begin);
  }
  pending_.clear();
  open_.clear();
  clock_error_ns_ = std::max(anchor_.error_ns, last.error_ns);
  free_events_.push_back(anchor_.event);
  anchor_ = last;
}

QueueWaits::~QueueWaits() {
  for (const Wait& wait : waits_) {
    destroy_cuda_event(wait.begin);
    destroy_cuda_event(wait.end);
  }
}

void QueueWaits::begin(WireKind kind, CudaQueue queue) {
  constexpr size_t kMostEvents = 8192;  // where nobody asks (evaluation), old ones are read at times
  if (num_used_ == kMostEvents) read();
  if (num_used_ == waits_.size()) waits_.push_back({kind, create_cuda_event(), create_cuda_event()});
  waits_[num_used_].kind = kind;
  record_cuda_event(waits_[num_used_].begin, queue);
}

void QueueWaits::end(CudaQueue queue) { record_cuda_event(waits_[num_used_++].end, queue); }

WireSeconds QueueWaits::take() {
  read();
  return std::exchange(seconds_, {});
}

void QueueWaits::read() {
  for (size_t i = 0; i < num_used_; ++i) {
    wait_for_cuda_event(waits_[i].end);
    seconds_[static_cast<size_t>(waits_[i].kind)] += cuda_seconds_between(waits_[i].begin, waits_[i].end);
  }
  num_used_ = 0;
}

TraceSection::TraceSection(Tracer* trace, TraceTrack track, const char* name)
    : trace_(trace), track_(track), name_(name) {
  if (trace_ == nullptr) return;
  num_exceptions_ = std::uncaught_exceptions();
  if (trace_->on_queue() && is_on_queue(track_)) {
    trace_->queue_section_begin(track_, name_);
  } else {
    begin_ns_ = trace_now_ns();
  }
}

TraceSection::~TraceSection() {
  if (trace_ == nullptr) return;
  const bool failed = std::uncaught_exceptions() > num_exceptions_;
  try {
    if (trace_->on_queue() && is_on_queue(track_)) {
      failed ? trace_->drop_queue() : trace_->end_queue();
    } else if (!failed) {
      trace_->section(track_, name_, begin_ns_, trace_now_ns());
    }
  } catch (const std::exception&) {
    // The device has failed, and whoever uses it next is told; a record less.
  }
}

}  // namespace shoal
