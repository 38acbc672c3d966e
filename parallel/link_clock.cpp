// parallel/link_clock.cpp: busy spans, in order.
#include "parallel/link_clock.h"

#include <algorithm>
#include <limits>

namespace shoal {

LinkClock::State LinkClock::state_at(int64_t time) const {
  for (int32_t i = 0; i < num_spans_; ++i) {
    const Span& span = spans_[static_cast<size_t>(i)];
    if (span.end <= time) continue;
    if (span.begin <= time) return {.busy = true, .until = span.end};
    return {.busy = false, .until = span.begin};
  }
  return {.busy = false, .until = std::numeric_limits<int64_t>::max()};
}

void LinkClock::occupy(Span span) {
  // Those that it touches become one with it.
  const auto begin = spans_.begin(), end = begin + num_spans_;
  const auto first = std::find_if(begin, end, [&](const Span& other) { return other.end >= span.begin; });
  const auto behind = std::find_if(first, end, [&](const Span& other) { return other.begin > span.end; });
  if (first != behind) {
    *first = {std::min(first->begin, span.begin), std::max((behind - 1)->end, span.end)};
    if (behind != first + 1) std::move(behind, end, first + 1);
    num_spans_ -= static_cast<int32_t>(behind - first) - 1;
    return;
  }
  std::move_backward(first, end, end + 1);
  *first = span;
  if (++num_spans_ <= kMaxSpans) return;
  // The oldest gap is given up: nobody will want it.
  spans_[1].begin = spans_[0].begin;
  std::move(spans_.begin() + 1, spans_.begin() + num_spans_, spans_.begin());
  --num_spans_;
}

LinkClock::Span LinkClock::reserve(LinkClock& uplink, LinkClock& downlink, int64_t from, int64_t duration) {
  int64_t time = from;
  const auto next_free = [&] {
    while (true) {
      const State up = uplink.state_at(time), down = downlink.state_at(time);
      if (!up.busy && !down.busy) return std::min(up.until, down.until);
      time = std::max(up.busy ? up.until : time, down.busy ? down.until : time);
    }
  };
  int64_t free_until = next_free();
  Span taken{.begin = time, .end = time};
  while (duration > 0) {
    const int64_t piece = std::min(duration, free_until - time);
    uplink.occupy({time, time + piece});
    downlink.occupy({time, time + piece});
    duration -= piece;
    taken.end = time + piece;
    time = taken.end;
    if (duration > 0) free_until = next_free();
  }
  return taken;
}

}  // namespace shoal
