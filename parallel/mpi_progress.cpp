// parallel/mpi_progress.cpp: post, look, sleep.
#include "parallel/mpi_progress.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "parallel/flight_recorder.h"
#include "parallel/peer_failed.h"

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
// Until strays are looked for when nothing comes, and from then on.
constexpr int64_t kBetweenStrayLooksNs = 50'000'000;

}  // namespace

void check_mpi(int code, const char* what) {
  if (code != MPI_SUCCESS) throw PeerFailed(fmt::format("{} failed: {}", what, mpi_error_text(code)));
}

MpiGroup::MpiGroup(MPI_Comm owned, std::vector<int> members) : comm_(owned), members_(std::move(members)) {
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  int* limit = nullptr;
  int found = 0;
  check_mpi(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found), "MPI_Comm_get_attr");  // others have none
  if (!members_.empty()) {
    int index = 0;
    check_mpi(MPI_Comm_rank(comm_, &index), "MPI_Comm_rank");
    this_rank_ = members_[static_cast<size_t>(index)];
  }
  tags_.emplace(found != 0 ? *limit : 32767);  // the standard promises this one
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
  if (!failure_.empty()) {
    fail_in_flight(at, std::make_exception_ptr(Error(failure_)));
    in_flight_.erase(at);
    return;
  }
  const Exchange& exchange = *at->exchange;
  const MpiGroup& group = *at->group;
  const MPI_Comm comm = group.comm();
  while (true) {
    const Round& round = exchange.round();
    group.newest_round_ = std::max(group.newest_round_, round.tag);
    const auto tag = [&](const Message& m) { return group.tags().tag(exchange.call(), round.tag, m.bytes); };
    const auto add = [&](int code, const char* what, MPI_Request request, int peer, int64_t receives) {
      check_mpi(code, what);
      requests_.push_back(request);
      pending_.push_back({.owner = at, .peer = peer, .bytes = receives});
      ++at->num_pending;
    };
    try {
      // Before the receiver can have them.
      if (at->links != nullptr) at->sent_ns = at->links->post(round, exchange.round_posted_ns());
      for (const Message& m : round.receives) {
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = MPI_Irecv(m.data, static_cast<int>(m.bytes), MPI_BYTE, m.peer, tag(m), comm, &request);
        add(code, "MPI_Irecv", request, m.peer, m.bytes);
      }
      for (const Message& m : round.sends) {
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = MPI_Isend(m.data, static_cast<int>(m.bytes), MPI_BYTE, m.peer, tag(m), comm, &request);
        add(code, "MPI_Isend", request, m.peer, -1);
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
    look_for_strays();
    std::this_thread::yield();
    return;
  }
  idle_looks_ = 0;
  struct Finished {
    Pending message;
    int error, bytes;
  };
  std::vector<Finished> finished;
  for (int i = 0; i < num_completed; ++i) {
    const size_t request = static_cast<size_t>(completed_[static_cast<size_t>(i)]);
    const MPI_Status& status = statuses_[static_cast<size_t>(i)];
    Finished done{
        .message = pending_[request], .error = code == MPI_SUCCESS ? MPI_SUCCESS : status.MPI_ERROR, .bytes = 0};
    if (done.message.bytes >= 0 && done.error == MPI_SUCCESS) MPI_Get_count(&status, MPI_BYTE, &done.bytes);
    finished.push_back(done);
    requests_[request] = MPI_REQUEST_NULL;
  }
  size_t kept = 0;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    requests_[kept] = requests_[i];
    pending_[kept++] = pending_[i];
  }
  requests_.resize(kept);
  pending_.resize(kept);
  for (const Finished& done : finished) finish_message(done.message, done.error, done.bytes);
}

void MpiProgress::finish_message(const Pending& message, int code, int64_t arrived_bytes) {
  const InFlightRef at = message.owner;
  --at->num_pending;
  if (code != MPI_SUCCESS && !at->failed) {
    const int sender = at->group->members()[static_cast<size_t>(message.peer)];
    const std::string different = different_calls_text(*at, at->exchange->round().tag, sender);
    fail_all(different.empty() ? "a message was lost: " + mpi_error_text(code) : different);
  }
  if (message.bytes >= 0 && arrived_bytes != message.bytes && !at->failed) {
    const int sender = at->group->members()[static_cast<size_t>(message.peer)];
    std::string text = different_calls_text(*at, at->exchange->round().tag, sender);
    if (text.empty()) {
      text = fmt::format("rank {} sends {} bytes to rank {}, which expects {}, in {}, call {} of group '{}'", sender,
                         arrived_bytes, at->group->this_rank(), message.bytes, describe(at->exchange->call()),
                         at->exchange->call().number, at->exchange->group_name());
    }
    fail_all(text);
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

// A message that has come and matches no receive is an early one of a round that this rank has yet to start, or it is
// of another call than this rank's.
void MpiProgress::look_for_strays() {
  if (idle_looks_ <= kLooksBeforeSleep) {
    next_stray_ns_ = 0;
    return;
  }
  const int64_t now_ns = steady_ns();
  if (next_stray_ns_ == 0) next_stray_ns_ = now_ns + kBetweenStrayLooksNs;
  if (now_ns < next_stray_ns_) return;
  next_stray_ns_ = now_ns + kBetweenStrayLooksNs;
  // Of every peer that is waited for, as early messages of others may lie in front; and of those that are not.
  std::set<std::pair<const MpiGroup*, int>> looked_at;
  for (const Pending& message : pending_) {
    if (message.owner->failed) continue;
    for (const int source : {message.peer, static_cast<int>(MPI_ANY_SOURCE)}) {
      if (!looked_at.emplace(message.owner->group.get(), source).second) continue;
      if (find_stray(*message.owner, source)) return;
    }
  }
}

bool MpiProgress::find_stray(const InFlight& item, int source) {
  const MpiGroup& group = *item.group;
  int found = 0;
  MPI_Status status;
  if (MPI_Iprobe(source, MPI_ANY_TAG, group.comm(), &found, &status) != MPI_SUCCESS || found == 0) return false;
  const int64_t round = group.tags().round_near(status.MPI_TAG, group.newest_round_);
  if (round > group.newest_round_) return false;
  const bool is_early = std::ranges::any_of(in_flight_, [&](const InFlight& x) {
    return x.group == item.group && x.exchange->round().tag < round && round <= x.exchange->last_tag();
  });
  if (!is_early) fail_all(stray_text(item, round, status));
  return !is_early;
}

std::string MpiProgress::stray_text(const InFlight& item, int64_t round, const MPI_Status& status) const {
  const MpiGroup& group = *item.group;
  const int sender = group.members()[static_cast<size_t>(status.MPI_SOURCE)];
  if (std::string text = different_calls_text(item, round, sender); !text.empty()) return text;
  // Of another machine, or of ranks that agree on all but the size of a message.
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  const auto own = std::ranges::find_if(in_flight_, [&](const InFlight& x) {
    return x.group == item.group && !x.failed && x.exchange->round().tag == round;
  });
  const std::string here = own == in_flight_.end()
                               ? "expects nothing from it"
                               : fmt::format("entered {} as call {} and expects no such message",
                                             describe(own->exchange->call()), own->exchange->call().number);
  return fmt::format(
      "rank {} sent {} bytes of {} {} in round {} of group '{}', where rank {} {}: all ranks of a group must make the "
      "same calls in the same order",
      sender, bytes, name_of(group.tags().verb(status.MPI_TAG)), name_of(group.tags().dtype(status.MPI_TAG)), round,
      item.exchange->group_name(), group.this_rank(), here);
}

std::string MpiProgress::different_calls_text(const InFlight& item, int64_t round, int sender) const {
  const std::shared_ptr<FlightRecorder>& flight = item.exchange->flight();
  const uint64_t group = item.exchange->group();
  const int here = item.group->this_rank();
  CollectiveCall mine, theirs;
  if (flight == nullptr || !flight->find_call(here, group, round, mine) ||
      !flight->find_call(sender, group, round, theirs)) {
    return {};
  }
  if (same_call(mine, theirs) && same_history(mine, theirs)) return {};
  return describe_mismatch(item.exchange->group_name(), sender, theirs, here, mine);
}

void MpiProgress::fail_all(const std::string& message) {
  if (failure_.empty()) failure_ = message;
  for (const InFlight& item : in_flight_) {
    if (item.exchange->flight() != nullptr) item.exchange->flight()->ask_for_dump();
  }
  for (auto at = in_flight_.begin(); at != in_flight_.end(); ++at) {
    if (!at->failed) fail_in_flight(at, std::make_exception_ptr(Error(failure_)));
  }
  // What nobody will send need not be waited for.
  for (size_t i = 0; i < pending_.size(); ++i) {
    if (pending_[i].bytes >= 0 && requests_[i] != MPI_REQUEST_NULL) MPI_Cancel(&requests_[i]);
  }
}

// The entry stays until its messages are through, as MPI may still write into its buffers.
void MpiProgress::fail_in_flight(InFlightRef at, std::exception_ptr error) {
  at->failed = true;
  at->exchange->complete(std::move(error));
}

}  // namespace shoal
