// parallel/exchange.cpp: rounds in turn, then the news.
#include "parallel/exchange.h"

#include <cstring>

#include "core/base/nvtx.h"
#include "parallel/flight_recorder.h"

namespace shoal {

void copy_own(const OwnCopy& own, CudaQueue queue) {
  if (own.to == own.from || own.bytes == 0) return;
  if (queue == nullptr) {
    std::memcpy(own.to, own.from, static_cast<size_t>(own.bytes));
  } else {
    copy_rows_cuda({own.to, own.bytes, own.from, own.bytes, own.bytes, 1}, queue, CopyWait::kReturnsAtOnce);
  }
}

Exchange::Exchange(std::vector<Round> rounds, std::vector<Tensor> buffers, ExchangeOrigin origin)
    : rounds_(std::move(rounds)),
      buffers_(std::move(buffers)),
      origin_(std::move(origin)),
      round_posted_ns_(steady_ns()) {
  SHOAL_CHECK(!rounds_.empty());
  last_tag_ = rounds_.back().tag;
  span_ = {.posted_ns = round_posted_ns_,
           .group = origin_.group,
           .tag = rounds_.front().tag,
           .rank = origin_.rank,
           .size = origin_.size};
  if (origin_.flight != nullptr) {
    flight_sequence_ = origin_.flight->begun(origin_.slot, origin_.group, origin_.call, rounds_.front().tag, last_tag_,
                                             round_posted_ns_);
  }
  for (const Round& round : rounds_) {
    for (const Message& message : round.sends) {
      span_.bytes += message.bytes;
      const int places = (message.peer - span_.rank + span_.size) % span_.size;
      SHOAL_CHECK(places > 0, "a message to oneself");
      if (message.bytes > 0 && places <= 64) span_.sent_to |= uint64_t{1} << (places - 1);
    }
  }
}

WireSpan Exchange::span() const {
  if (state_.load(std::memory_order_acquire) == 0) return {};
  return span_;
}

void Exchange::wait() {
  if (!done()) {
    const NvtxRange range("wire.wait");
    num_waiting_.fetch_add(1, std::memory_order_relaxed);
    state_.wait(0, std::memory_order_acquire);
    num_waiting_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (error_) std::rethrow_exception(error_);
}

void Exchange::posted() { copy_own(round().own, round().queue); }

bool Exchange::arrived() {
  try {
    ordered_sum(round().sum, round().queue);
  } catch (...) {
    complete(std::current_exception());
    return false;
  }
  if (current_ + 1 < rounds_.size()) {
    ++current_;
    round_posted_ns_ = steady_ns();
    return true;
  }
  complete(nullptr);
  return false;
}

void Exchange::complete(std::exception_ptr error) {
  if (error == nullptr) {
    rounds_.clear();
    buffers_.clear();
  }
  error_ = std::move(error);
  span_.completed_ns = steady_ns();
  if (origin_.flight != nullptr && error_ == nullptr) origin_.flight->ended(flight_sequence_, span_.completed_ns);
  state_.store(1, std::memory_order_release);
  state_.notify_all();
}

}  // namespace shoal
