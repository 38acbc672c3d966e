// core/base/trace.h: what one rank did when: ops, transfers, waits, and parts of a step, for the timeline.
//
// A stream without a Tracer records nothing and pays nothing (Stream::set_trace). All calls come from the thread that
// posts the rank's work, so there are no locks. Times are std::chrono::steady_clock's, in nanoseconds.
//
// On a GPU what matters happens on the compute queue: an event before and one behind each op and each wait, read when
// the records are taken. Two more events whose time on the host is known, one at start() and one at take(), place the
// device's clock on the host's; between them the device's clock is taken to run evenly.
#pragma once

#include <vector>

#include "core/base/cuda_backend.h"
#include "core/base/wire.h"
#include "core/base/work.h"

namespace shoal {

int64_t trace_now_ns();

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
  uint64_t group = 0;                              // kWire: WireSpan's
  int64_t tag = 0;                                 // kWire: likewise; kStep: which
  int32_t lane = -1, microbatch = -1, layer = -1;  // -1: not known
  TraceTrack track = TraceTrack::kCompute;
  uint8_t kind = 0;  // kCompute: WorkKind; kWait, kWire: WireKind
};

class Tracer {
 public:
  // `queue`: the rank's compute queue; null on a CPU.
  explicit Tracer(CudaQueue queue = nullptr) : queue_(queue) {}
  ~Tracer();
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

  // On a CPU.
  void op(const Work& work, int64_t begin_ns, int64_t end_ns);
  // Nothing was under way where the span is not known.
  void wire(WireKind kind, const WireSpan& span, int lane);
  void wait(WireKind kind, int64_t begin_ns, int64_t end_ns, int lane);
  // `number`: of a step; it becomes the record's tag.
  void section(TraceTrack track, const char* name, int64_t begin_ns, int64_t end_ns, int64_t number = 0);

  // On a GPU, on its compute queue: from here to the matching end_queue(); they nest. drop_queue() forgets the one that
  // was begun last.
  //
  // A wait is from when the queue has done what was queued before it, to when it may go on: what it stood still for the
  // wire. queue_wait_begin() comes before Operation::wait() and end_queue() behind it. Where the device waits for an
  // event of the wire's queue (NCCL), that is all there is between the two. Where the host waits and copies up what
  // arrived (messages by way of host memory), the queue stands still from its last op until the copy is there; that
  // copy counts as waiting too, and the copies down, which the host waits for when it posts, do not.
  void begin_queue_op(const Work& work);
  void queue_wait_begin(WireKind kind, int lane);
  void queue_section_begin(TraceTrack track, const char* name);
  void end_queue();
  void drop_queue() noexcept;
  bool on_queue() const { return queue_ != nullptr; }

 private:
  struct Place {
    int32_t microbatch = -1, layer = -1;
  };
  struct Pending {
    TraceRecord record;
    CudaEvent begin = nullptr, end = nullptr;
  };
  struct Anchor {
    CudaEvent event = nullptr;
    int64_t host_ns = 0, error_ns = 0;
  };

  Place& place_of(int lane);
  void place(TraceRecord& record, int lane) const;
  void begin_queue(TraceRecord record, int lane);
  CudaEvent take_event();
  Anchor measure_anchor();
  void resolve_pending();

  CudaQueue queue_;
  std::vector<TraceRecord> records_;
  int lane_ = -1;
  std::vector<Place> places_;  // by lane
  std::vector<Pending> pending_;
  std::vector<size_t> open_;  // of pending_, innermost last
  std::vector<CudaEvent> free_events_;
  Anchor anchor_;
  int64_t clock_error_ns_ = 0;
};

// Seconds by kind that a GPU's compute queue stood still for the wire, without a Tracer: for every step's metrics, at
// two events a wait. As Tracer::queue_wait_begin() says.
class QueueWaits {
 public:
  ~QueueWaits();
  QueueWaits() = default;
  QueueWaits(const QueueWaits&) = delete;
  QueueWaits& operator=(const QueueWaits&) = delete;

  void begin(WireKind kind, CudaQueue queue);
  void end(CudaQueue queue);
  // Since the last call; blocks until the last of them is over.
  WireSeconds take();

 private:
  struct Wait {
    WireKind kind = WireKind::kOther;
    CudaEvent begin = nullptr, end = nullptr;
  };
  void read();

  std::vector<Wait> waits_;  // the first num_used_ of them are not read yet
  size_t num_used_ = 0;
  WireSeconds seconds_{};  // of those that were
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
