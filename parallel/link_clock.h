// parallel/link_clock.h: when a link is busy, and the earliest time that a sender's uplink and a receiver's downlink
// have for a message.
//
// A message takes the earliest time in which both links are free, in pieces if need be: those posted before it are
// never delayed, and what they leave idle is used. With a single "free from then on" a link, one message that waits for
// its receiver would hold up all behind it: an all-to-all of four nodes would take three times as long as its bytes.
#pragma once

#include <array>
#include <cstdint>

namespace shoal {

// Plain data, for memory that processes share; zeros: always free. Times in nanoseconds.
class LinkClock {
 public:
  struct Span {
    int64_t begin = 0, end = 0;
  };

  // Holds both links for `duration` from `from` on; the first and the last moment of it. A message without bytes takes
  // no time, but starts when both are free.
  static Span reserve(LinkClock& uplink, LinkClock& downlink, int64_t from, int64_t duration);

 private:
  static constexpr int kMaxSpans = 64;

  // From `time` on: whether it is busy, and until when it stays so.
  struct State {
    bool busy = false;
    int64_t until = 0;
  };
  State state_at(int64_t time) const;
  void occupy(Span span);

  int32_t num_spans_ = 0;
  std::array<Span, kMaxSpans + 1> spans_ = {};  // ascending, apart from each other
};

}  // namespace shoal
