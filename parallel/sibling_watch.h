// parallel/sibling_watch.h: a thread that sees when another process of the same launcher is stopped (SIGSTOP), where no
// watchdog runs: while MPI starts, and while it ends; and when MPI does not come to start at all.
//
// Open MPI never notices a stopped rank, and the watchdog (core/train/watchdog.h) exists only between the moment when
// all ranks have met and the one when all are through. This one needs nobody: the launcher's children are read from
// /proc. A rank that is alone on its node, and one that was started through a shell that stays, have no siblings here;
// a process that a debugger holds is let be. Whichever rank it is that does not come to MPI's start, the others do not
// wait longer for it than start_limit_s().
#pragma once

#include <compare>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace shoal {

// What main returns when a rank was found stuck, stopped or gone.
constexpr int kWatchdogExit = 92;

struct StoppedProcess {
  int64_t pid = 0;
  uint64_t start = 0;
  auto operator<=>(const StoppedProcess&) const = default;
};

// The children of `parent` in state T; none where /proc does not tell.
std::vector<StoppedProcess> stopped_children(int64_t parent);

// How the launcher numbered the process: "rank 3 (process 1234)", or without the rank where nobody says.
std::string name_of_sibling(int64_t pid);

// Seconds that MPI may take to start: SHOAL_MPI_START_S, or 300; 0: any. No field of the config, which is read later.
// Throws where the variable is no number.
double start_limit_s();

class SiblingWatch {
 public:
  // Watches until it is destroyed; nothing where no launcher started this process as one of several. A sibling stopped
  // for 5 seconds, and a start of MPI that takes longer than `start_limit_s` (0: any), end this process with
  // kWatchdogExit and a message; the launcher ends the others.
  SiblingWatch(bool launched, double start_limit_s);
  ~SiblingWatch();
  SiblingWatch(const SiblingWatch&) = delete;
  SiblingWatch& operator=(const SiblingWatch&) = delete;

  // MPI has started.
  void started();
  // While somebody else watches.
  void pause();
  void resume();

 private:
  void run();
  void look(double now_s);
  void check_start(double since_last_s);
  [[noreturn]] void end(const std::string& what) const;

  int64_t launcher_ = 0;
  std::map<StoppedProcess, double> stopped_since_s_;
  double looked_s_ = 0;
  const double start_limit_s_;
  double waited_s_ = 0;  // for MPI's start, this process running

  std::mutex mutex_;
  std::condition_variable news_;
  bool starting_ = true;
  bool paused_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace shoal
