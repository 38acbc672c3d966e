// parallel/exchange.h: the one thing a transport must do: move byte ranges to and from peers, and say when.
//
// An Exchange is an Operation of one or two rounds. In a round, messages leave to and arrive from peers under one tag;
// once all of them are through, a local step runs (the ordered sum), and the next round may start. Tags are the group's
// own sequence of rounds, so that it does not matter in which order exchanges complete. A round is data, not code: a
// transport between GPUs does the local steps on its own queue, and may know the whole round by a name.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/lane.h"
#include "core/base/steady_clock.h"
#include "core/base/tensor.h"
#include "parallel/collective_call.h"
#include "parallel/ordered_sum.h"

namespace shoal {

struct Message {
  int peer = 0;
  std::byte* data = nullptr;
  int64_t bytes = 0;  // 0 only in a barrier
};

// Bytes that need no peer.
struct OwnCopy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  int64_t bytes = 0;
};
// To and from host memory, or in queue order where it is not null.
void copy_own(const OwnCopy& own, CudaQueue queue);

// What all ranks' messages of a round are together, for transports that have it built in.
struct Collective {
  enum class Kind { kNone, kAllGather, kBroadcast };
  Kind kind = Kind::kNone;
  std::byte* data = nullptr;  // kAllGather: all pieces, this rank's in its place
  int64_t bytes = 0;          // of one piece; never 0
  int root = 0;               // kBroadcast
};

struct Round {
  int64_t tag = 0;
  // Several messages to one peer arrive in the order listed: parts of a range above the transport's limit.
  std::vector<Message> sends;
  std::vector<Message> receives;
  Collective collective;      // the same bytes as sends and receives
  OwnCopy own;                // when they are posted
  RankSum sum;                // the local step, when they have arrived
  CudaQueue queue = nullptr;  // of the copy and the sum; null: on the host
};

class FlightRecorder;

// Which call an exchange carries out, and where that is recorded.
struct ExchangeOrigin {
  CollectiveCall call = {};
  uint64_t group = 0;
  std::shared_ptr<const std::string> group_name = nullptr;
  int rank = 0, size = 1;                            // in the group
  std::shared_ptr<FlightRecorder> flight = nullptr;  // null: nowhere
  int slot = -1;                                     // the group's in `flight`
};

class Exchange : public Operation {
 public:
  // `buffers` are held until complete.
  Exchange(std::vector<Round> rounds, std::vector<Tensor> buffers, ExchangeOrigin origin);

  bool done() override { return state_.load(std::memory_order_acquire) != 0; }
  void wait() override;
  WireSpan span() const override;

  // For the transport, from one thread at a time: post round() and call posted(); when its messages are through, call
  // arrived(). True: round() is now the next one. False: the exchange is complete. A local step's exception completes
  // it.
  const Round& round() const { return rounds_[current_]; }
  const std::vector<Tensor>& buffers() const { return buffers_; }
  int64_t last_tag() const { return last_tag_; }
  const CollectiveCall& call() const { return origin_.call; }
  uint64_t group() const { return origin_.group; }
  std::string_view group_name() const {
    return origin_.group_name == nullptr ? std::string_view() : std::string_view(*origin_.group_name);
  }
  const std::shared_ptr<FlightRecorder>& flight() const { return origin_.flight; }
  // When round() became the current one.
  int64_t round_posted_ns() const { return round_posted_ns_; }
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
  ExchangeOrigin origin_;
  uint64_t flight_sequence_ = 0;
  int64_t last_tag_;
  std::exception_ptr error_;
  int64_t round_posted_ns_;
  WireSpan span_;
  std::atomic<int> state_ = 0;  // 1: complete
  std::atomic<int> num_waiting_ = 0;
};

}  // namespace shoal
