// core/base/trace.h: what one rank did when: ops, transfers, waits, and parts of a step, for the timeline.
//
// A stream without a Tracer records nothing and pays nothing (Stream::set_trace). All calls come from the thread that
// posts the rank's work, so there are no locks. Times are steady_ns(). Ops and waits come from the account that sums
// them too (time_account.h).
//
// On a GPU what matters happens on queues: an event before and one behind each op, wait and transfer, read when the
// records are taken. Two more events whose time on the host is known, one at start() and one at take(), place the
// device's clock on the host's; between them the device's clock is taken to run evenly.
#pragma once

#include <vector>

#include "core/base/cuda_event_pool.h"
#include "core/base/wire.h"
#include "core/base/work.h"

namespace shoal {

enum class TraceTrack : uint8_t {
  kStep,        // a whole optimizer step
  kData,        // for the prefetcher, and microbatches made
  kCompute,     // ops
  kWait,        // for the wire, with nothing to compute
  kWire,        // under way
  kOptimizer,   // the update
  kValidation,  // a whole validation
};
constexpr int kNumTraceTracks = 7;

struct TraceRecord {
  const char* name = "";  // a literal
  int64_t begin_ns = 0, end_ns = 0;
  double flops = 0, bytes = 0;
  uint64_t group = 0;    // kWire: WireSpan's
  int64_t tag = 0;       // kWire: likewise; kStep: which
  uint64_t sent_to = 0;  // kWire: likewise, as rank and size
  int32_t rank = 0, size = 0;
  int32_t lane = -1, microbatch = -1, layer = -1;  // -1: not known
  TraceTrack track = TraceTrack::kCompute;
  uint8_t kind = 0;  // kCompute: WorkKind; kWait, kWire: WireKind
};

class Tracer {
 public:
  // `queue`: the rank's compute queue; null on a CPU.
  explicit Tracer(CudaQueue queue = nullptr) : queue_(queue) {}
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  // Forgets what there is, and makes room. On a GPU waits for the queue.
  void start();
  // What was recorded since start() or the last take(), by begin. On a GPU waits for the queue.
  std::vector<TraceRecord> take();
  // On a GPU: how far its times may be off, as last measured; else 0.
  int64_t clock_error_ns() const { return clock_error_ns_; }

  // What follows is done for this lane, and for its microbatch and layer where these are set; -1: for none.
  void enter_lane(int lane);
  void set_microbatch(int lane, int microbatch) { place_of(lane).microbatch = microbatch; }
  void set_layer(int lane, int layer) { place_of(lane).layer = layer; }

  // Nothing was under way where the span is not known, or its group has one rank. One of events must be over when the
  // records are taken: the compute queue waits for it.
  void wire(WireKind kind, const WireSpan& span, int lane);

  // For TimeAccount, on a CPU.
  void op(const Work& work, int64_t begin_ns, int64_t end_ns);
  void wait(WireKind kind, int64_t begin_ns, int64_t end_ns, int lane);
  // `number`: of a step; it becomes the record's tag.
  void section(TraceTrack track, const char* name, int64_t begin_ns, int64_t end_ns, int64_t number = 0);

  // On a GPU, on its compute queue: from event `begin` to that of the matching end_queue(); they nest. drop_queue()
  // forgets the one that was begun last. The first two are TimeAccount's to call.
  //
  // A wait is from when the queue has done what was queued before it, to when it may go on: what it stood still for the
  // wire. Where the device waits for an event of the wire's queue (NCCL), that is all there is between the two. Where
  // the host waits and copies up what arrived (messages by way of host memory), the queue stands still from its last op
  // until the copy is there; that copy counts as waiting too, and the copies down, which the host waits for when it
  // posts, do not.
  void begin_queue_op(const Work& work, const SharedCudaEvent& begin);
  void begin_queue_wait(WireKind kind, int lane, const SharedCudaEvent& begin);
  void begin_queue_section(TraceTrack track, const char* name);
  void end_queue(const SharedCudaEvent& end);
  void end_queue_section() { end_queue(events_.record(queue_)); }
  void drop_queue() noexcept;
  bool on_queue() const { return queue_ != nullptr; }

 private:
  struct Place {
    int32_t microbatch = -1, layer = -1;
  };
  struct Pending {
    TraceRecord record;
    SharedCudaEvent begin, end;  // null: not ended
  };
  struct Anchor {
    SharedCudaEvent event;
    int64_t host_ns = 0, error_ns = 0;
  };

  Place& place_of(int lane);
  void place(TraceRecord& record, int lane) const;
  void begin_queue(TraceRecord record, int lane, const SharedCudaEvent& begin);
  Anchor measure_anchor();
  void resolve_pending();

  CudaQueue queue_;
  std::vector<TraceRecord> records_;
  int lane_ = -1;
  std::vector<Place> places_;  // by lane
  std::vector<Pending> pending_;
  std::vector<size_t> open_;  // of pending_, innermost last
  CudaEventPool events_;
  Anchor anchor_;
  int64_t clock_error_ns_ = 0;
};

// A part of a step from here to the end of the scope, if there is a trace: kOptimizer as the compute queue sees it on a
// GPU, the others as the host does.
class TraceSection {
 public:
  TraceSection(Tracer* trace, TraceTrack track, const char* name);
  ~TraceSection();
  TraceSection(const TraceSection&) = delete;
  TraceSection& operator=(const TraceSection&) = delete;

 private:
  Tracer* trace_;
  TraceTrack track_;
  const char* name_;
  int64_t begin_ns_ = 0;
  int num_exceptions_ = 0;
};

}  // namespace shoal
