// core/train/watchdog_verdict.h: from what is known of the ranks to who is at fault: a pure function, and the memory of
// when each was last seen to move.
//
// A rank waits for another where it has posted a call of a group that the other has not. Who waits is not at fault; the
// rank at the end of the chain is, when it has taken longer than its phase allows. So a rank that saves for minutes
// stops nobody, though all others wait for it in the middle of a step.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.pb.h"
#include "parallel/flight_record.h"
#include "parallel/process_facts.h"

namespace shoal {

struct WatchLimits {
  double step_s = 10, start_s = 300, save_s = 1800, evaluate_s = 1800;
  double silent_s = 5;          // nothing is heard of a rank of this machine
  double silent_node_s = 6.25;  // or of another one: who is there sees what it is, and has told by then
  double gone_s = 1;            // its process is gone: the launcher comes first
};
WatchLimits watch_limits(const WatchdogConfig& config);

// What is known of one rank.
struct Sighting {
  RankState state;
  double silent_s = 0;  // since its monitor thread was last heard of
  double idle_s = 0;    // since it has last done something
  ProcessState process = ProcessState::kUnknown;
};

struct WatchView {
  int num_ranks = 1;
  int node = 0;                 // of who judges
  std::vector<Sighting> ranks;  // those that can be seen
};

enum class Finding {
  kNone,
  kGone,            // the process is not there
  kStopped,         // by a signal or a debugger
  kSilent,          // it does not run, nobody knows why
  kEnded,           // it is through, others wait for it
  kStuck,           // it works on something that does not end
  kDifferentCalls,  // ranks of a group made different calls
  kDeadlock,        // ranks wait for each other in different calls
  kLostMessages     // all have made the call, and it does not end
};

// It does not run.
constexpr bool is_silence(Finding finding) {
  return finding == Finding::kGone || finding == Finding::kStopped || finding == Finding::kSilent;
}

struct Verdict {
  Finding finding = Finding::kNone;
  std::vector<int> ranks;  // at fault, ascending
  std::string text;        // a sentence for a person
};

// How long the rank may make no progress, and what says so. `longest_step_s`: of any rank.
struct PhaseLimit {
  double seconds = 0;
  std::string_view knob;
};
PhaseLimit phase_limit(const RankState& state, double longest_step_s, const WatchLimits& limits);

Verdict judge(const WatchView& view, const WatchLimits& limits);

// The first call of a group that two of these ranks made differently, as a sentence; empty: none is found in what their
// flight records still hold.
std::string find_different_calls(const std::map<int, std::vector<FlightCall>>& calls_of_rank);

// When each rank was last seen to move, by the clock of who looks.
class Sightings {
 public:
  // Before the states of a round: the time now, and how long the observer meant to sleep since the last. One that slept
  // much longer was suspended, with all others perhaps: everything counts from now.
  void wake(double now_s, double asked_s);
  void see(const RankState& state, ProcessState process = ProcessState::kUnknown);
  // Of all that were ever seen, by rank.
  std::vector<Sighting> all() const;
  // Seconds since this rank was heard of; 0: it was never seen.
  double silent_s(int rank) const;

 private:
  struct Seen {
    RankState state;
    ProcessState process = ProcessState::kUnknown;
    double beat_at_s = 0, progress_at_s = 0;
  };
  double now_s_ = 0;
  bool awake_ = false;
  std::map<int, Seen> seen_;
};

}  // namespace shoal
