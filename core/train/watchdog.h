// core/train/watchdog.h: a thread of each rank that sees when a rank of the job is stuck, stopped or gone, names it,
// and ends the job.
//
// Four times a second it wakes, tells that it lives, and reads what the ranks of its node record (flight_recorder.h).
// The first rank of each node sends that to rank 0 over a channel of its own (side_channel.h), rank 0 judges all
// (watchdog_verdict.h); should it be the one that is stopped, another rank of its node does, or another node. Whoever
// judges has every rank's flight record written to RUN/flight/rank-NNNNN.jsonl, says once on stderr who is at fault,
// and ends the job with kWatchdogExit. The order to write them goes over a second channel too, of each node's second
// ranks: whoever judges instead of a stopped first rank has no other way to the rest. Before it watches, and after,
// parallel/sibling_watch.h does.
//
// Ranks whose calls differ end by an exception (collective_call.h): whoever finds it asks for the records, and they are
// written while the exception leaves.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

#include "core/train/watchdog_verdict.h"
#include "parallel/flight_recorder.h"
#include "parallel/mpi_session.h"
#include "parallel/sibling_watch.h"
#include "parallel/side_channel.h"

namespace shoal {

class Watchdog {
 public:
  // Collective. Watches until it is destroyed; nothing where there is one rank or run.watchdog.enabled is false. The
  // world and the session outlive it.
  Watchdog(MpiSession& session, Communicator& world, const RunConfig& run);
  // Collective: waits, still watching, until all ranks are through; but not while an exception leaves.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void open_channels();  // collective
  void run();
  void look(double now_s);
  bool speaks_for_node() const;
  WatchView view() const;
  void send_states();
  void receive();
  void collect_records();
  void dump_own();
  void dump_silent();
  std::filesystem::path record_path(int rank) const;
  void write_record(int record) const;
  void remove_records_of_others() const;
  bool only_this_node_finds(const Verdict& verdict) const;
  [[noreturn]] void end_job(const Verdict& verdict);

  MpiSession& session_;
  Communicator& world_;
  std::shared_ptr<FlightRecorder> flight_;  // null: nothing is watched
  int num_exceptions_at_start_;
  WatchLimits limits_;
  std::filesystem::path folder_;  // RUN/flight
  int num_ranks_ = 1;
  int rank_ = 0;
  int node_ = 0;
  int node_index_ = 0;            // how many nodes there are in front of this one
  std::vector<int> records_;      // of this node's ranks in `flight_`, by rank
  SideEnd channel_;               // of each node's first rank: states and orders
  SideEnd second_channel_;        // of its second, or of the first where there is no second: orders alone
  bool ordered_to_dump_ = false;  // by another node
  bool passed_on_ = false;        // to this node's ranks and, from rank 0's, to other nodes
  bool dumped_ = false;
  double dump_at_s_ = 0;  // when this node was asked to
  double started_s_ = 0;
  bool warned_ = false;

  Sightings sightings_;
  std::mutex mutex_;
  std::condition_variable news_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace shoal
