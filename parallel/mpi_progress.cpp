// parallel/mpi_progress.cpp: post, look, sleep.
#include "parallel/mpi_progress.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <utility>

namespace shoal {

namespace {

std::string mpi_error_text(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return {text.data(), static_cast<size_t>(length)};
}

// Looks at MPI without sleeping after a message completed: the next one is often close behind.
constexpr int64_t kLooksBeforeSleep = 30;
constexpr std::chrono::microseconds kSleepWhenAwaited{20};
constexpr std::chrono::microseconds kShortestSleep{50};
constexpr std::chrono::microseconds kLongestSleep{200};

}  // namespace

void check_mpi(int code, const char* what) {
  if (code != MPI_SUCCESS) fail("{} failed: {}", what, mpi_error_text(code));
}

MpiGroup::MpiGroup(MPI_Comm owned) : comm_(owned) {
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  int* limit = nullptr;
  int found = 0;
  check_mpi(MPI_Comm_get_attr(comm_, MPI_TAG_UB, &limit, &found), "MPI_Comm_get_attr");
  if (found != 0) tag_limit_ = *limit;
}

MpiGroup::~MpiGroup() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Comm_free(&comm_);
}

MpiProgress::MpiProgress() : thread_([this] { run(); }) {}

void MpiProgress::post(std::shared_ptr<Exchange> exchange, std::shared_ptr<const MpiGroup> group,
                       std::shared_ptr<const GroupLinks> links) {
  {
    const std::lock_guard lock(mutex_);
    SHOAL_CHECK(!stop_, "posted after the communication thread was stopped");
    queue_.push_back({.exchange = std::move(exchange), .group = std::move(group), .links = std::move(links)});
  }
  news_.notify_one();
}

void MpiProgress::finish() { stop(false); }
void MpiProgress::abandon() { stop(true); }

void MpiProgress::stop(bool abandon) {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    abandon_ = abandon_ || abandon;
  }
  news_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void MpiProgress::run() {
  pthread_setname_np(pthread_self(), "shoal-wire");
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns; by default the kernel may add 50 µs to every sleep
  while (take_queue()) {
    // An exchange without messages completes at once and leaves the list.
    for (auto at = in_flight_.begin(); at != in_flight_.end();) {
      const auto next = std::next(at);
      if (at->num_pending == 0 && !at->failed) start_or_resume(at);
      at = next;
    }
    test_messages();
  }
}

std::chrono::microseconds MpiProgress::time_to_sleep() const {
  if (idle_looks_ < kLooksBeforeSleep) return {};
  if (std::ranges::any_of(in_flight_, [](const InFlight& x) { return x.exchange->awaited(); }))
    return kSleepWhenAwaited;
  return std::min(kLongestSleep, kShortestSleep * (1 + idle_looks_ - kLooksBeforeSleep));
}

bool MpiProgress::take_queue() {
  std::unique_lock lock(mutex_);
  const auto is_called = [this] { return !queue_.empty() || abandon_; };
  if (const int64_t due_ns = earliest_due_ns(); due_ns > 0) {
    using Time = std::chrono::steady_clock::time_point;
    Time until{std::chrono::nanoseconds(due_ns)};
    if (!requests_.empty()) until = std::min(until, std::chrono::steady_clock::now() + Time::duration(time_to_sleep()));
    news_.wait_until(lock, until, is_called);
  } else if (requests_.empty()) {
    news_.wait(lock, [this] { return !queue_.empty() || stop_; });
  } else if (const auto sleep = time_to_sleep(); sleep.count() > 0) {
    news_.wait_for(lock, sleep, is_called);
  }
  if (!queue_.empty()) idle_looks_ = 0;
  for (InFlight& item : queue_) in_flight_.push_back(std::move(item));
  queue_.clear();
  if (abandon_) {
    const auto error =
        std::make_exception_ptr(Error("this rank left the computation before the operation was complete"));
    for (InFlight& item : in_flight_) {
      if (!item.failed) item.exchange->complete(error);
    }
    return false;
  }
  return !stop_ || !std::ranges::all_of(in_flight_, &InFlight::failed);
}

int64_t MpiProgress::earliest_due_ns() const {
  int64_t earliest = 0;
  for (const InFlight& item : in_flight_) {
    if (!item.failed && item.due_ns > 0 && (earliest == 0 || item.due_ns < earliest)) earliest = item.due_ns;
  }
  return earliest;
}

void MpiProgress::start_or_resume(InFlightRef at) {
  if (at->due_ns == 0) {
    start_round(at);
  } else if (steady_ns() >= at->due_ns) {
    at->due_ns = 0;
    finish_round(at);
  }
}

void MpiProgress::start_round(InFlightRef at) {
  const Exchange& exchange = *at->exchange;
  const MPI_Comm comm = at->group->comm();
  while (true) {
    const Round& round = exchange.round();
    const int tag = static_cast<int>(round.tag % at->group->tag_limit());
    const auto add = [&](int code, const char* what, MPI_Request request) {
      check_mpi(code, what);
      requests_.push_back(request);
      owners_.push_back(at);
      ++at->num_pending;
    };
    try {
      // Before the receiver can have them.
      if (at->links != nullptr) at->sent_ns = at->links->post(round, exchange.round_posted_ns());
      for (const Message& m : round.receives) {
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = MPI_Irecv(m.data, static_cast<int>(m.bytes), MPI_BYTE, m.peer, tag, comm, &request);
        add(code, "MPI_Irecv", request);
      }
      for (const Message& m : round.sends) {
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = MPI_Isend(m.data, static_cast<int>(m.bytes), MPI_BYTE, m.peer, tag, comm, &request);
        add(code, "MPI_Isend", request);
      }
    } catch (...) {
      fail_in_flight(at, std::current_exception());
      if (at->num_pending == 0) in_flight_.erase(at);
      return;
    }
    at->exchange->posted();
    if (at->num_pending > 0) return;
    if (!at->exchange->arrived()) {
      in_flight_.erase(at);
      return;
    }
  }
}

void MpiProgress::test_messages() {
  if (requests_.empty()) return;
  const int count = static_cast<int>(requests_.size());
  completed_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int num_completed = 0;
  const int code = MPI_Testsome(count, requests_.data(), &num_completed, completed_.data(), statuses_.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
    const auto error = std::make_exception_ptr(Error("MPI_Testsome failed: " + mpi_error_text(code)));
    for (auto at = in_flight_.begin(); at != in_flight_.end(); ++at) {
      if (!at->failed) fail_in_flight(at, error);
    }
    num_completed = 0;
  }
  if (num_completed <= 0) {  // MPI_UNDEFINED is negative
    ++idle_looks_;
    std::this_thread::yield();
    return;
  }
  idle_looks_ = 0;
  std::vector<std::pair<InFlightRef, int>> finished;
  for (int i = 0; i < num_completed; ++i) {
    const size_t request = static_cast<size_t>(completed_[static_cast<size_t>(i)]);
    const int error = code == MPI_SUCCESS ? MPI_SUCCESS : statuses_[static_cast<size_t>(i)].MPI_ERROR;
    finished.emplace_back(owners_[request], error);
    requests_[request] = MPI_REQUEST_NULL;
  }
  size_t kept = 0;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    requests_[kept] = requests_[i];
    owners_[kept++] = owners_[i];
  }
  requests_.resize(kept);
  owners_.resize(kept);
  for (const auto& [at, error] : finished) finish_message(at, error);
}

void MpiProgress::finish_message(InFlightRef at, int code) {
  --at->num_pending;
  if (code != MPI_SUCCESS && !at->failed) {
    fail_in_flight(at, std::make_exception_ptr(Error("a message was lost: " + mpi_error_text(code))));
  }
  if (at->num_pending > 0) return;
  if (at->failed) {
    in_flight_.erase(at);
    return;
  }
  try {
    if (must_wait(at)) return;
  } catch (...) {
    fail_in_flight(at, std::current_exception());
    in_flight_.erase(at);
    return;
  }
  finish_round(at);
}

// Its messages have come; on emulated links their time may not have.
bool MpiProgress::must_wait(InFlightRef at) {
  if (at->links == nullptr) return false;
  const int64_t due_ns = std::max(at->sent_ns, at->links->arrival(at->exchange->round()));
  if (steady_ns() >= due_ns) return false;
  at->due_ns = due_ns;
  return true;
}

void MpiProgress::finish_round(InFlightRef at) {
  if (at->exchange->arrived()) {
    start_round(at);
  } else {
    in_flight_.erase(at);
  }
}

// The entry stays until its messages are through, as MPI may still write into its buffers.
void MpiProgress::fail_in_flight(InFlightRef at, std::exception_ptr error) {
  at->failed = true;
  at->exchange->complete(std::move(error));
}

}  // namespace shoal
