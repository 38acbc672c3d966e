// parallel/thread_hub.cpp: match under the lock, copy and sum outside it.
#include "parallel/thread_hub.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/base/openmp.h"
#include "parallel/peer_failed.h"

namespace shoal {

namespace {

std::shared_ptr<const ThreadGroup> all_threads(int num_threads) {
  SHOAL_CHECK(num_threads >= 1, "{} ranks", num_threads);
  ThreadGroup group;
  group.threads.resize(static_cast<size_t>(num_threads));
  std::iota(group.threads.begin(), group.threads.end(), 0);
  return std::make_shared<const ThreadGroup>(std::move(group));
}

}  // namespace

ThreadHub::ThreadHub(int num_threads) : world_(all_threads(num_threads)) {}

void ThreadHub::post(std::shared_ptr<Exchange> exchange, std::shared_ptr<const ThreadGroup> group, int rank,
                     std::shared_ptr<const GroupLinks> links) {
  const auto item = std::make_shared<InFlight>();
  item->tag = exchange->round().tag - 1;
  item->last_tag = exchange->last_tag();
  item->exchange = std::move(exchange);
  item->group = std::move(group);
  item->links = std::move(links);
  item->rank = rank;
  item->num_busy = 1;
  {
    const std::lock_guard lock(mutex_);
    in_flight_.insert(item);
  }
  run_rounds({item});
}

// Rounds that become complete, of this exchange and of others, are run from this list: recursion would have no end.
void ThreadHub::run_rounds(std::vector<InFlightPtr> to_run) {
  while (!to_run.empty()) {
    const InFlightPtr next = std::move(to_run.back());
    to_run.pop_back();
    run_round(next, to_run);
  }
}

void ThreadHub::run_round(const InFlightPtr& item, std::vector<InFlightPtr>& to_run) {
  reserve_links(item);
  const std::vector<Pair> pairs = match(item);
  item->exchange->posted();
  for (const Pair& pair : pairs) {
    const Message& from = pair.send.message;
    if (from.bytes > 0) std::memcpy(pair.receive.message.data, from.data, static_cast<size_t>(from.bytes));
    for (const InFlightPtr& owner : {pair.send.owner, pair.receive.owner}) {
      if (work_is_over(owner, 1)) advance_when_due(owner, to_run);
    }
  }
  if (work_is_over(item, 0)) advance_when_due(item, to_run);
}

// Before a receiver can have the messages.
void ThreadHub::reserve_links(const InFlightPtr& item) {
  if (item->links == nullptr) return;
  try {
    item->sent_ns = item->links->post(item->exchange->round(), item->exchange->round_posted_ns());
  } catch (const Error& error) {
    fail(error.what(), std::current_exception());
  }
}

// Posts the messages of a round; those whose other half was there already leave the queues, to be copied by the caller.
std::vector<ThreadHub::Pair> ThreadHub::match(const InFlightPtr& item) {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) return {};
  const Round& round = item->exchange->round();
  item->tag = round.tag;
  item->num_pending = round.sends.size() + round.receives.size();
  compare_calls(*item);
  if (!failure_.empty()) return {};
  std::vector<Pair> pairs;
  const auto other_half = [](Queues& queues, const Key& key) -> Posted {
    const auto found = queues.find(key);
    if (found == queues.end()) return {};
    Posted posted = std::move(found->second.front());
    found->second.pop_front();
    if (found->second.empty()) queues.erase(found);
    return posted;
  };
  const auto add_pair = [&](Pair pair) {
    if (pair.send.message.bytes != pair.receive.message.bytes) {
      fail_all(fmt::format("rank {} sends {} bytes to rank {}, which expects {}", pair.send.owner->thread(),
                           pair.send.message.bytes, pair.receive.owner->thread(), pair.receive.message.bytes));
      return;
    }
    ++pair.send.owner->num_busy;
    ++pair.receive.owner->num_busy;
    pairs.push_back(std::move(pair));
  };
  for (const Message& message : round.receives) {
    const Key key{item->group->id, round.tag, message.peer, item->rank};
    if (Posted send = other_half(sends_, key); send.owner != nullptr) {
      add_pair({std::move(send), {item, message}});
    } else {
      receives_[key].push_back({item, message});
    }
  }
  for (const Message& message : round.sends) {
    const Key key{item->group->id, round.tag, item->rank, message.peer};
    if (Posted receive = other_half(receives_, key); receive.owner != nullptr) {
      add_pair({{item, message}, std::move(receive)});
    } else {
      sends_[key].push_back({item, message});
    }
  }
  check_for_unmatched(*item);
  check_for_absent();
  return pairs;
}

// All ranks of a group ask for the same in the same round.
void ThreadHub::compare_calls(const InFlight& item) {
  const auto [place, is_first] = meetings_.try_emplace({item.group->id, item.tag});
  Meeting& meeting = place->second;
  const CollectiveCall& call = item.exchange->call();
  ++meeting.num_come;
  if (is_first) {
    meeting.call = call;
    meeting.thread = item.thread();
  } else if (!same_call(meeting.call, call) || !same_history(meeting.call, call)) {
    fail_all(describe_mismatch(item.exchange->group_name(), item.thread(), call, meeting.thread, meeting.call));
  }
}

// When all have come, every message has its other half.
void ThreadHub::check_for_unmatched(const InFlight& item) {
  const auto meeting = meetings_.find({item.group->id, item.tag});
  if (meeting == meetings_.end() || meeting->second.num_come < item.group->threads.size()) return;
  meetings_.erase(meeting);
  for (const Queues* queues : {&sends_, &receives_}) {
    const auto left = queues->lower_bound(Key{item.group->id, item.tag, 0, 0});
    if (left == queues->end() || std::get<0>(left->first) != item.group->id || std::get<1>(left->first) != item.tag) {
      continue;
    }
    const auto& [group, tag, sender, receiver] = left->first;
    const int64_t bytes = left->second.front().message.bytes;
    const bool sent = queues == &sends_;
    fail_all(fmt::format("rank {} sends {} bytes to rank {}, which expects {}, in {}",
                         item.group->threads[static_cast<size_t>(sender)], sent ? bytes : 0,
                         item.group->threads[static_cast<size_t>(receiver)], sent ? 0 : bytes,
                         describe(item.exchange->call())));
    return;
  }
}

// A piece of work on an item is over, and with it so many of its messages. True: the round is through, and the caller
// alone goes on with it.
bool ThreadHub::work_is_over(const InFlightPtr& item, size_t num_messages) {
  const std::lock_guard lock(mutex_);
  item->num_pending -= num_messages;
  if (--item->num_busy > 0) return false;
  if (!failure_.empty()) {
    complete_with_failure(item);
    return false;
  }
  if (item->num_pending > 0) return false;
  item->num_busy = 1;
  return true;
}

void ThreadHub::advance_when_due(const InFlightPtr& item, std::vector<InFlightPtr>& to_run) {
  if (item->links == nullptr) return advance(item, to_run);
  int64_t due_ns = item->sent_ns;
  try {
    due_ns = std::max(due_ns, item->links->arrival(item->exchange->round()));
  } catch (const Error& error) {
    fail(error.what(), std::current_exception());
  }
  const std::lock_guard lock(mutex_);
  item->num_busy = 0;  // until the timer resumes it, at once where it is due
  if (!failure_.empty()) return complete_with_failure(item);
  if (timer_ == nullptr) timer_ = std::make_unique<TimerThread>();
  timer_->at(due_ns, [this, item] { resume(item); });
}

void ThreadHub::resume(const InFlightPtr& item) {
  omp_set_num_threads(1);  // as the ranks' threads
  std::vector<InFlightPtr> to_run;
  {
    const std::lock_guard lock(mutex_);
    if (!in_flight_.contains(item)) return;  // it has failed meanwhile
    item->num_busy = 1;
  }
  advance(item, to_run);
  run_rounds(std::move(to_run));
}

void ThreadHub::finish() {
  std::unique_lock lock(mutex_);
  over_.wait(lock, [&] { return in_flight_.empty(); });
  const std::unique_ptr<TimerThread> ended = std::move(timer_);
  lock.unlock();
}

void ThreadHub::advance(const InFlightPtr& item, std::vector<InFlightPtr>& to_run) {
  if (item->exchange->arrived()) {
    to_run.push_back(item);
    return;
  }
  const std::lock_guard lock(mutex_);
  in_flight_.erase(item);
  if (in_flight_.empty()) over_.notify_all();
  check_for_absent();
}

std::shared_ptr<const ThreadGroup> ThreadHub::form_group(const ThreadGroup& parent, int64_t call, int rank,
                                                         const std::vector<int>& ranks) {
  std::unique_lock lock(mutex_);
  const std::pair key{parent.id, call};
  std::shared_ptr<Forming>& place = forming_[key];
  if (place == nullptr) place = std::make_shared<Forming>();
  const std::shared_ptr<Forming> forming = place;
  forming->threads = parent.threads;
  forming->lists[rank] = ranks;
  if (forming->lists.size() == parent.threads.size()) {
    make_groups(*forming);
    forming_.erase(key);
  }
  check_for_absent();
  formed_.wait(lock, [&] { return !forming->groups.empty() || !failure_.empty(); });
  if (forming->groups.empty()) throw PeerFailed(failure_);
  return forming->groups.at(ranks);
}

void ThreadHub::make_groups(Forming& forming) {
  for (const auto& [rank, ranks] : forming.lists) {
    for (const int other : ranks) {
      if (forming.lists[other] != ranks) {
        fail_all(fmt::format("ranks of one group must name the same ranks: rank {} names {}, rank {} names {}", rank,
                             fmt::join(ranks, ", "), other, fmt::join(forming.lists[other], ", ")));
        return;
      }
    }
  }
  for (const auto& [rank, ranks] : forming.lists) {
    if (forming.groups.contains(ranks)) continue;
    ThreadGroup group;
    group.id = next_group_++;
    for (const int member : ranks) group.threads.push_back(forming.threads[static_cast<size_t>(member)]);
    forming.groups[ranks] = std::make_shared<const ThreadGroup>(std::move(group));
  }
  formed_.notify_all();
}

void ThreadHub::fail(const std::string& message, std::exception_ptr exception) {
  const std::lock_guard lock(mutex_);
  if (first_exception_ == nullptr) first_exception_ = std::move(exception);
  fail_all(message);
}

void ThreadHub::leave(int thread) {
  const std::lock_guard lock(mutex_);
  left_.insert(thread);
  check_for_absent();
}

void ThreadHub::rethrow() const {
  if (first_exception_ != nullptr) std::rethrow_exception(first_exception_);
  if (!failure_.empty()) throw PeerFailed(failure_);
}

void ThreadHub::fail_all(const std::string& message) {
  if (!failure_.empty()) return;
  failure_ = message;
  sends_.clear();
  receives_.clear();
  meetings_.clear();
  const std::vector<InFlightPtr> items(in_flight_.begin(), in_flight_.end());
  for (const InFlightPtr& item : items) {
    if (item->num_busy == 0) complete_with_failure(item);  // else whoever is at work on it does
  }
  formed_.notify_all();
}

void ThreadHub::complete_with_failure(const InFlightPtr& item) {
  in_flight_.erase(item);
  if (in_flight_.empty()) over_.notify_all();
  // An exception of its own for each waiter: they are rethrown in different threads.
  item->exchange->complete(std::make_exception_ptr(PeerFailed(failure_)));
}

// Fails if somebody waits for a thread that has left and posted nothing that matches.
void ThreadHub::check_for_absent() {
  if (left_.empty() || !failure_.empty()) return;
  const auto check = [&](int waiting, int awaited, int64_t group, int64_t tag) {
    if (!left_.contains(awaited) || will_post(awaited, group, tag)) return false;
    fail_all(fmt::format("rank {} ended without posting what rank {} waits for", awaited, waiting));
    return true;
  };
  for (const Queues* queues : {&sends_, &receives_}) {
    for (const auto& [key, posted] : *queues) {
      const auto& [group, tag, sender, receiver] = key;
      const InFlight& owner = *posted.front().owner;
      const int other = queues == &sends_ ? receiver : sender;
      if (check(owner.thread(), owner.group->threads[static_cast<size_t>(other)], group, tag)) return;
    }
  }
  for (const auto& [key, forming] : forming_) {
    const int waiting = forming->threads[static_cast<size_t>(forming->lists.begin()->first)];
    for (size_t rank = 0; rank < forming->threads.size(); ++rank) {
      if (forming->lists.contains(static_cast<int>(rank)) || !left_.contains(forming->threads[rank])) continue;
      fail_all(fmt::format("rank {} ended without making the group that rank {} waits for", forming->threads[rank],
                           waiting));
      return;
    }
  }
}

// Whether a later round of an exchange that this thread has posted has this tag.
bool ThreadHub::will_post(int thread, int64_t group, int64_t tag) const {
  return std::ranges::any_of(in_flight_, [&](const InFlightPtr& item) {
    return item->thread() == thread && item->group->id == group && item->tag < tag && tag <= item->last_tag;
  });
}

}  // namespace shoal
