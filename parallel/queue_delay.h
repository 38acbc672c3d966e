// parallel/queue_delay.h: a wire's queue on a GPU, held until emulated links would have brought what came.
//
//   wire's queue   (1) … messages … (2) │ sum …
//
// (1) when the queue has come so far, the links are reserved; (2) when the messages have come, a timer of the host is
// set, and the queue waits until it lets it go on. No thread and no multiprocessor is kept busy.
#pragma once

#include <memory>

#include "parallel/link_emulator.h"
#include "parallel/timer_thread.h"

namespace shoal {

class QueueDelay {
 public:
  explicit QueueDelay(CudaQueue queue);
  // Waits until the queue has gone on.
  ~QueueDelay();
  QueueDelay(const QueueDelay&) = delete;
  QueueDelay& operator=(const QueueDelay&) = delete;

  // In front of the messages of a round.
  void before(const Round& round, std::shared_ptr<const GroupLinks> links);
  // Behind them.
  void after();

 private:
  struct UnderWay {
    std::shared_ptr<const GroupLinks> links;
    Round round;
    int64_t sent_ns = 0;
  };

  CudaQueue queue_;
  CudaCount passed_;  // rounds that may be left behind
  uint32_t num_held_ = 0;
  std::shared_ptr<UnderWay> under_way_;
  std::unique_ptr<TimerThread> timer_;
};

}  // namespace shoal
