// parallel/thread_hub.h: where ranks that are threads of one process meet: messages matched, groups formed, failures
// told to all.
//
// A posted message waits until its other half is posted; whoever posts that copies the bytes, and whoever brings the
// last message of a round through runs the round's local step and posts the next. No thread is the hub's own, but one
// that sees rounds on emulated links through when they are due.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "parallel/exchange.h"
#include "parallel/link_emulator.h"
#include "parallel/timer_thread.h"

namespace shoal {

struct ThreadGroup {
  int64_t id = 0;
  std::vector<int> threads;  // of each rank: its rank in the world
};

class ThreadHub {
 public:
  explicit ThreadHub(int num_threads);
  ThreadHub(const ThreadHub&) = delete;
  ThreadHub& operator=(const ThreadHub&) = delete;

  std::shared_ptr<const ThreadGroup> world() const { return world_; }
  // Starts an exchange of this rank of the group. `links`: those that are emulated, or null.
  void post(std::shared_ptr<Exchange> exchange, std::shared_ptr<const ThreadGroup> group, int rank,
            std::shared_ptr<const GroupLinks> links = nullptr);
  // Blocks until every rank of the parent is here with the list (ranks of the parent) of its new group; `call` counts
  // a rank's calls.
  std::shared_ptr<const ThreadGroup> form_group(const ThreadGroup& parent, int64_t call, int rank,
                                                const std::vector<int>& ranks);

  // From now on every wait of every thread throws an Error with `message`. The first message and exception stay.
  void fail(const std::string& message, std::exception_ptr exception);
  // This thread posts nothing more. Fails if another waits for what it has not posted.
  void leave(int thread);
  // After the last thread has left: until all that was posted is complete. Nothing is held afterwards.
  void finish();
  // Then: the first exception, or else the failure if there was one.
  void rethrow() const;

 private:
  struct InFlight {
    std::shared_ptr<Exchange> exchange;
    std::shared_ptr<const ThreadGroup> group;
    std::shared_ptr<const GroupLinks> links;
    int rank = 0;
    int64_t sent_ns = 0;     // on emulated links: when the round's messages have left
    int64_t tag = 0;         // of the round that was posted last
    int64_t last_tag = 0;    // of its last round
    size_t num_pending = 0;  // messages of the round that are not through
    int num_busy = 0;        // pieces of work under way: posting or summing, and each message that is being copied
    int thread() const { return group->threads[static_cast<size_t>(rank)]; }
  };
  using InFlightPtr = std::shared_ptr<InFlight>;
  struct Posted {
    InFlightPtr owner;
    Message message;
  };
  struct Pair {
    Posted send;
    Posted receive;
  };
  using Key = std::tuple<int64_t, int64_t, int, int>;  // group, tag, sender, receiver
  using Queues = std::map<Key, std::deque<Posted>>;    // never an empty queue
  struct Forming {
    std::vector<int> threads;                                               // of the parent
    std::map<int, std::vector<int>> lists;                                  // of each rank that has come
    std::map<std::vector<int>, std::shared_ptr<const ThreadGroup>> groups;  // when all have
  };

  // What the first rank that came to a round of a group asked for, and how many have come.
  struct Meeting {
    CollectiveCall call;
    int thread = 0;
    size_t num_come = 0;
  };

  void run_round(const InFlightPtr& item, std::vector<InFlightPtr>& to_run);
  std::vector<Pair> match(const InFlightPtr& item);
  bool work_is_over(const InFlightPtr& item, size_t num_messages);
  void run_rounds(std::vector<InFlightPtr> to_run);
  void reserve_links(const InFlightPtr& item);
  // Those that are complete are due at once but on emulated links; then the timer goes on with them.
  void advance_when_due(const InFlightPtr& item, std::vector<InFlightPtr>& to_run);
  void advance(const InFlightPtr& item, std::vector<InFlightPtr>& to_run);
  void resume(const InFlightPtr& item);
  // With the lock held.
  void compare_calls(const InFlight& item);
  void check_for_unmatched(const InFlight& item);
  void fail_all(const std::string& message);
  void complete_with_failure(const InFlightPtr& item);
  void check_for_absent();
  bool will_post(int thread, int64_t group, int64_t tag) const;
  void make_groups(Forming& forming);

  const std::shared_ptr<const ThreadGroup> world_;
  std::mutex mutex_;
  std::condition_variable formed_;
  std::condition_variable over_;  // nothing is in flight
  std::set<InFlightPtr> in_flight_;
  Queues sends_;
  Queues receives_;
  std::map<std::pair<int64_t, int64_t>, Meeting> meetings_;                  // by group and tag: not all have come
  std::map<std::pair<int64_t, int64_t>, std::shared_ptr<Forming>> forming_;  // by parent and call
  int64_t next_group_ = 1;
  std::set<int> left_;   // threads
  std::string failure_;  // empty: none
  std::exception_ptr first_exception_;
  std::unique_ptr<TimerThread> timer_;  // once something had to wait
};

}  // namespace shoal
