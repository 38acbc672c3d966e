// parallel/exchange.cpp: rounds in turn, then the news.
#include "parallel/exchange.h"

namespace shoal {

Exchange::Exchange(std::vector<Round> rounds, std::vector<Tensor> buffers)
    : rounds_(std::move(rounds)), buffers_(std::move(buffers)) {
  SHOAL_CHECK(!rounds_.empty());
}

void Exchange::wait() {
  if (!done()) {
    num_waiting_.fetch_add(1, std::memory_order_relaxed);
    state_.wait(0, std::memory_order_acquire);
    num_waiting_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (error_) std::rethrow_exception(error_);
}

void Exchange::posted() {
  if (round().when_posted) round().when_posted();
}

bool Exchange::arrived() {
  try {
    if (round().when_arrived) round().when_arrived();
  } catch (...) {
    complete(std::current_exception());
    return false;
  }
  if (current_ + 1 < rounds_.size()) {
    ++current_;
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
  state_.store(1, std::memory_order_release);
  state_.notify_all();
}

}  // namespace shoal
