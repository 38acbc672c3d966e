// core/base/simulated_clock.h: the time of one simulated rank: ops and waiting advance it, nothing else does.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>

#include "core/base/work.h"

namespace shoal {

class SimulatedClock {
 public:
  using OpSeconds = std::function<double(const Work&)>;
  // `between_ops_s`: what the host takes around every op. Without `op_seconds` computation is endlessly fast.
  explicit SimulatedClock(OpSeconds op_seconds = nullptr, double between_ops_s = 0)
      : op_seconds_(std::move(op_seconds)), between_ops_s_(between_ops_s) {}

  double now_s() const { return now_s_; }

  // An op runs to its end; its own seconds.
  double run(const Work& work) {
    const double seconds = op_seconds_ ? op_seconds_(work) : 0;
    ops_s_ += seconds;
    host_s_ += between_ops_s_;
    now_s_ += seconds + between_ops_s_;
    return seconds;
  }
  // Nothing runs until then, unless it is past.
  void wait_until(double at_s) {
    waited_s_ += std::max(at_s - now_s_, 0.0);
    now_s_ = std::max(now_s_, at_s);
  }

  // What the time went to, so far: in ops, between them, waiting.
  double ops_s() const { return ops_s_; }
  double host_s() const { return host_s_; }
  double waited_s() const { return waited_s_; }

 private:
  OpSeconds op_seconds_;
  double between_ops_s_ = 0;
  double now_s_ = 0, ops_s_ = 0, host_s_ = 0, waited_s_ = 0;
};

}  // namespace shoal
