// parallel/mpi_progress.h: the process's one communication thread: it posts the messages of exchanges and sees them
// through.
//
// Between two looks at MPI it sleeps, from tens to hundreds of µs, so that it does not take the core from the
// computation (a blocking MPI_Wait would spin); when someone blocks on an exchange, it looks more often. On emulated
// links it keeps the news of what has come to itself until they are due, and sleeps till then.
//
// A message of another call than the one that its receiver is at matches no receive (message_tag.h) and lies there. So
// a thread that nothing has come to for a while looks for such messages (MPI_Iprobe), and where ranks have made
// different calls, everything in flight and all that is posted later fails with an Error that says so.
#pragma once

#include <mpi.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/exchange.h"
#include "parallel/link_emulator.h"
#include "parallel/message_tag.h"

namespace shoal {

// Throws with MPI's own words unless `code` is MPI_SUCCESS. `what` names the call.
void check_mpi(int code, const char* what);

// An MPI communicator of our own, freed when its last exchange is complete. Its errors are returned, not fatal.
class MpiGroup {
 public:
  // `members`: the world's ranks in it; empty: it carries no exchanges.
  explicit MpiGroup(MPI_Comm owned, std::vector<int> members = {});
  ~MpiGroup();
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;

  MPI_Comm comm() const { return comm_; }
  const std::vector<int>& members() const { return members_; }
  int this_rank() const { return this_rank_; }  // of the world
  const MessageTags& tags() const { return *tags_; }

 private:
  friend class MpiProgress;
  MPI_Comm comm_;
  std::vector<int> members_;
  int this_rank_ = 0;
  std::optional<MessageTags> tags_;
  mutable int64_t newest_round_ = -1;  // that has been started; of the communication thread
};

class MpiProgress {
 public:
  MpiProgress();
  ~MpiProgress() { finish(); }
  MpiProgress(const MpiProgress&) = delete;
  MpiProgress& operator=(const MpiProgress&) = delete;

  // `links`: those that are emulated, or null.
  void post(std::shared_ptr<Exchange> exchange, std::shared_ptr<const MpiGroup> group,
            std::shared_ptr<const GroupLinks> links = nullptr);
  // Ends the thread when everything posted is complete, as every rank posts the same.
  void finish();
  // Ends the thread at once; what has not completed fails. For a rank that leaves because of an error: its peers may
  // never post the other half.
  void abandon();

 private:
  struct InFlight {
    std::shared_ptr<Exchange> exchange;
    std::shared_ptr<const MpiGroup> group;
    std::shared_ptr<const GroupLinks> links;
    size_t num_pending = 0;  // messages of the current round
    bool failed = false;
    int64_t sent_ns = 0;  // on emulated links: when the round's messages have left,
    int64_t due_ns = 0;   // and, once they have come, when they may be said to have
  };
  using InFlightRef = std::list<InFlight>::iterator;
  // A message that MPI has been asked for or given.
  struct Pending {
    InFlightRef owner;
    int peer = 0;
    int64_t bytes = -1;  // of a receive
  };

  void stop(bool abandon);
  void run();
  // Sleeps until there is news or it is time to look again; takes over what was queued. False: the thread must end.
  bool take_queue();
  // Until MPI is asked again; until the news of a round that has come are due: the earliest, 0: none is.
  std::chrono::microseconds time_to_sleep() const;
  int64_t earliest_due_ns() const;
  void start_or_resume(InFlightRef at);
  void start_round(InFlightRef at);
  void test_messages();
  void finish_message(const Pending& message, int code, int64_t arrived_bytes);
  // Whether messages lie here that belong to none of the calls that this rank makes.
  void look_for_strays();
  bool find_stray(const InFlight& item, int source);
  std::string stray_text(const InFlight& item, int64_t round, const MPI_Status& status) const;
  // That `sender`, of the world, and this rank made different calls of this round, if they did and both can be seen.
  std::string different_calls_text(const InFlight& item, int64_t round, int sender) const;
  void fail_all(const std::string& message);
  bool must_wait(InFlightRef at);
  void finish_round(InFlightRef at);
  void fail_in_flight(InFlightRef at, std::exception_ptr error);

  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<InFlight> queue_;
  bool stop_ = false;
  bool abandon_ = false;

  // Of the communication thread alone.
  std::list<InFlight> in_flight_;
  std::vector<MPI_Request> requests_;
  std::vector<Pending> pending_;  // of each request
  std::vector<int> completed_;
  std::vector<MPI_Status> statuses_;
  int64_t idle_looks_ = 0;     // since a message last completed
  int64_t next_stray_ns_ = 0;  // when strays are looked for
  std::string failure_;        // of the ranks' calls: nothing that is posted completes any more

  std::thread thread_;
};

}  // namespace shoal
