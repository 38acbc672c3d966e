// parallel/mpi_progress.h: the process's one communication thread: it posts the messages of exchanges and sees them
// through.
//
// Between two looks at MPI it sleeps, from tens to hundreds of µs, so that it does not take the core from the
// computation (a blocking MPI_Wait would spin); when someone blocks on an exchange, it looks more often. On emulated
// links it keeps the news of what has come to itself until they are due, and sleeps till then.
#pragma once

#include <mpi.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/exchange.h"
#include "parallel/link_emulator.h"

namespace shoal {

// Throws with MPI's own words unless `code` is MPI_SUCCESS. `what` names the call.
void check_mpi(int code, const char* what);

// An MPI communicator of our own, freed when its last exchange is complete. Its errors are returned, not fatal.
class MpiGroup {
 public:
  explicit MpiGroup(MPI_Comm owned);
  ~MpiGroup();
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;

  MPI_Comm comm() const { return comm_; }
  int tag_limit() const { return tag_limit_; }

 private:
  MPI_Comm comm_;
  int tag_limit_ = 32767;  // tags are below; the standard promises this one
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
  void finish_message(InFlightRef at, int code);
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
  std::vector<InFlightRef> owners_;  // of each request
  std::vector<int> completed_;
  std::vector<MPI_Status> statuses_;
  int64_t idle_looks_ = 0;  // since a message last completed

  std::thread thread_;
};

}  // namespace shoal
