// core/base/time_account.h: where a rank's time goes: in ops, and waiting for the wire, by kind.
//
// Every op and every wait is noted here, once. From the notes come the sums that every step's metrics show and, where
// there is a Tracer, the timeline's records: so the two agree. All calls come from the thread that posts the work.
//
//   CPU        the host's clock. Ops that run inside a wait (sums that were due when something arrived) are no waiting.
//   simulated  waits on the simulated clock; ops are the clock's own to sum, and 0 here.
//   GPU        what the compute queue is at, by an event at each change, read when somebody asks for sums. With a
//              Tracer it changes at the begin and the end of every op. Without, two events an op would be felt; so it
//              is at ops from the first op behind a wait, or behind the host's reading, to the next of those: gaps
//              between ops where the host is late count as ops, and so do copies to the host that it does not wait for
//              by Stream::wait or read_to_host. Waits are noted alike in both.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/base/cuda_event_pool.h"
#include "core/base/device.h"
#include "core/base/wire.h"
#include "core/base/work.h"

namespace shoal {

class SimulatedClock;
class Tracer;

struct TimeSums {
  double ops_s = 0;
  WireSeconds waits_s{};  // with no op under way

  double waits_total_s() const;
  TimeSums operator-(const TimeSums& before) const;
};

class TimeAccount {
 public:
  // `queue`: the rank's compute queue; null but on kCuda.
  TimeAccount(DeviceKind device, CudaQueue queue) : device_(device), queue_(queue) {}
  TimeAccount(const TimeAccount&) = delete;
  TimeAccount& operator=(const TimeAccount&) = delete;

  void set_trace(Tracer* trace) { trace_ = trace; }
  Tracer* trace() const { return trace_; }
  void set_clock(const SimulatedClock* clock) { clock_ = clock; }

  // Returns the time, on a CPU, for end_op(), which returns what the op took, on a CPU.
  int64_t begin_op(const Work& work);
  int64_t end_op(const Work& work, int64_t begin_ns);
  // Instead of end_op(), when an exception leaves the op: it is in no record and, on a CPU, in no sum.
  void drop_op() noexcept;

  // Around Operation::wait(), where it is not done yet; on a GPU always, for there the queue waits, now or later.
  void begin_wait(WireKind kind, int lane);
  void end_wait();

  // On a GPU, before the host waits for all that is queued: until the next op the queue has nothing to do.
  void begin_host_read();

  // So far. On a GPU this waits for the queue.
  TimeSums sums();

 private:
  // What a queue is at: waiting for a WireKind, or one of these.
  static constexpr int kOps = kNumWireKinds, kNothing = kOps + 1, kNumStates = kNothing + 1;
  struct Mark {
    int state = kNothing;  // from here on
    SharedCudaEvent event;
  };

  int64_t now_ns() const;
  bool waits() const { return waiting_for_ >= 0; }
  const SharedCudaEvent& mark(int state);
  void read_marks();

  DeviceKind device_;
  CudaQueue queue_;
  Tracer* trace_ = nullptr;
  const SimulatedClock* clock_ = nullptr;
  int waiting_for_ = -1, waiting_lane_ = -1;  // WireKind, while it waits
  // On a host's clock:
  int64_t wait_begin_ns_ = 0, ops_before_wait_ns_ = 0;
  int64_t ops_ns_ = 0;
  std::array<int64_t, kNumWireKinds> waits_ns_{};
  // On a queue:
  CudaEventPool events_;
  std::vector<Mark> marks_;  // not read yet, and the last that was
  int state_ = kNothing;     // behind the last mark
  std::array<double, kNumStates> queue_s_{};
};

}  // namespace shoal
