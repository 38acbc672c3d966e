// parallel/exchange.h: the one thing a transport must do: move byte ranges to and from peers, and say when.
//
// An Exchange is an Operation of one or two rounds. In a round, messages leave to and arrive from peers under one tag;
// once all of them are through, a local step runs (the ordered sum), and the next round may start. Tags are the group's
// own sequence of rounds, so that it does not matter in which order exchanges complete.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/lane.h"
#include "core/base/tensor.h"

namespace shoal {

struct Message {
  int peer = 0;
  std::byte* data = nullptr;
  int64_t bytes = 0;  // 0 only in a barrier
};

struct Round {
  int64_t tag = 0;
  // Several messages to one peer arrive in the order listed: parts of a range above the transport's limit.
  std::vector<Message> sends;
  std::vector<Message> receives;
  std::function<void()> when_posted;   // what needs no peer: copies of the rank's own piece; may be empty
  std::function<void()> when_arrived;  // the local step; may be empty
};

class Exchange : public Operation {
 public:
  // `buffers` are held until complete.
  Exchange(std::vector<Round> rounds, std::vector<Tensor> buffers);

  bool done() override { return state_.load(std::memory_order_acquire) != 0; }
  void wait() override;

  // For the transport, from one thread at a time: post round() and call posted(); when its messages are through, call
  // arrived(). True: round() is now the next one. False: the exchange is complete. A local step's exception completes
  // it.
  const Round& round() const { return rounds_[current_]; }
  int64_t last_tag() const { return rounds_.back().tag; }
  void posted();
  bool arrived();
  // Completes it; wait() rethrows `error` unless null. Buffers are released first, but held after an error: the
  // transport may still write into them.
  void complete(std::exception_ptr error);
  // Someone blocks in wait(): nothing is gained by leaving the core to the computation.
  bool awaited() const { return num_waiting_.load(std::memory_order_relaxed) > 0; }

 private:
  std::vector<Round> rounds_;
  size_t current_ = 0;
  std::vector<Tensor> buffers_;
  std::exception_ptr error_;
  std::atomic<int> state_ = 0;  // 1: complete
  std::atomic<int> num_waiting_ = 0;
};

}  // namespace shoal
