// core/base/trace.cpp: records in order, and a GPU's clock on the host's.
#include "core/base/trace.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/base/check.h"
#include "core/base/steady_clock.h"

namespace shoal {

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

void Tracer::start() {
  records_.clear();
  records_.reserve(kRoomForRecords);
  open_.clear();
  if (!on_queue()) return;
  wait_for_cuda_queue(queue_);
  pending_.clear();
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
  if (!span.is_known() || span.size == 1) return;
  TraceRecord record = wire_record(TraceTrack::kWire, kind);
  record.bytes = static_cast<double>(span.bytes);
  record.group = span.group;
  record.tag = span.tag;
  record.sent_to = span.sent_to;
  record.rank = span.rank;
  record.size = span.size;
  place(record, lane);
  if (span.begin != nullptr) {
    pending_.push_back({record, span.begin, span.end});
    return;
  }
  record.begin_ns = span.posted_ns;
  record.end_ns = std::max(span.posted_ns, span.completed_ns);
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

void Tracer::begin_queue_op(const Work& work, const SharedCudaEvent& begin) {
  begin_queue(op_record(work), lane_, begin);
}

void Tracer::begin_queue_wait(WireKind kind, int lane, const SharedCudaEvent& begin) {
  begin_queue(wire_record(TraceTrack::kWait, kind), lane, begin);
}

void Tracer::begin_queue_section(TraceTrack track, const char* name) {
  TraceRecord record;
  record.name = name;
  record.track = track;
  begin_queue(record, -1, events_.record(queue_));
}

void Tracer::begin_queue(TraceRecord record, int lane, const SharedCudaEvent& begin) {
  place(record, lane);
  pending_.push_back({record, begin, nullptr});
  open_.push_back(pending_.size() - 1);
}

void Tracer::end_queue(const SharedCudaEvent& end) {
  SHOAL_CHECK(!open_.empty(), "nothing was begun on the queue");
  pending_[open_.back()].end = end;
  open_.pop_back();
}

// Its record stays, without an end: resolve_pending() passes over it.
void Tracer::drop_queue() noexcept {
  if (!open_.empty()) open_.pop_back();
}

// The event happens between two looks at the host's clock; of some tries the one that leaves the least open.
Tracer::Anchor Tracer::measure_anchor() {
  constexpr int kTries = 8;
  wait_for_cuda_queue(queue_);
  Anchor best;
  for (int i = 0; i < kTries; ++i) {
    const int64_t before_ns = steady_ns();
    const SharedCudaEvent event = events_.record(queue_);
    while (!cuda_event_done(event.get())) {
    }
    const int64_t after_ns = steady_ns();
    const Anchor found{event, before_ns + (after_ns - before_ns) / 2, (after_ns - before_ns + 1) / 2};
    if (best.event == nullptr || found.error_ns < best.error_ns) best = found;
  }
  return best;
}

void Tracer::resolve_pending() {
  SHOAL_CHECK(anchor_.event != nullptr, "take() without start()");
  const Anchor last = measure_anchor();
  const double device_s = cuda_seconds_between(anchor_.event.get(), last.event.get());
  const auto host_ns = static_cast<double>(last.host_ns - anchor_.host_ns);
  const auto time_of = [&](const SharedCudaEvent& event) {
    double since_s = cuda_seconds_between(anchor_.event.get(), event.get());
    // A transfer that began before the trace did: asked the other way round.
    if (since_s <= 0) since_s = -cuda_seconds_between(event.get(), anchor_.event.get());
    const double share = device_s > 0 ? since_s / device_s : 0;
    return anchor_.host_ns + static_cast<int64_t>(share * host_ns);
  };
  for (Pending& pending : pending_) {
    if (pending.end == nullptr) continue;
    pending.record.begin_ns = time_of(pending.begin);
    pending.record.end_ns = std::max(pending.record.begin_ns, time_of(pending.end));
    records_.push_back(pending.record);
  }
  pending_.clear();
  open_.clear();
  clock_error_ns_ = std::max(anchor_.error_ns, last.error_ns);
  anchor_ = last;
}

TraceSection::TraceSection(Tracer* trace, TraceTrack track, const char* name)
    : trace_(trace), track_(track), name_(name) {
  if (trace_ == nullptr) return;
  num_exceptions_ = std::uncaught_exceptions();
  if (trace_->on_queue() && is_on_queue(track_)) {
    trace_->begin_queue_section(track_, name_);
  } else {
    begin_ns_ = steady_ns();
  }
}

TraceSection::~TraceSection() {
  if (trace_ == nullptr) return;
  const bool failed = std::uncaught_exceptions() > num_exceptions_;
  try {
    if (trace_->on_queue() && is_on_queue(track_)) {
      failed ? trace_->drop_queue() : trace_->end_queue_section();
    } else if (!failed) {
      trace_->section(track_, name_, begin_ns_, steady_ns());
    }
  } catch (const std::exception&) {
    // The device has failed, and whoever uses it next is told; a record less.
  }
}

}  // namespace shoal
