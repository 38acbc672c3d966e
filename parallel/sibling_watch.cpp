// parallel/sibling_watch.cpp: the launcher's children, four times a second.
#include "parallel/sibling_watch.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include "core/base/check.h"
#include "core/base/steady_clock.h"
#include "parallel/process_facts.h"

namespace shoal {

namespace {

constexpr double kPeriodS = 0.25;
constexpr double kLimitS = 5;
// Longer between two looks than this: it was this process, or the whole machine, that did not run.
constexpr double kOwnGapS = 2;

// Every thread of a process has children of its own.
std::vector<int64_t> children(int64_t parent) {
  std::vector<int64_t> pids;
  std::error_code ignored;
  const auto threads = std::filesystem::directory_iterator(fmt::format("/proc/{}/task", parent), ignored);
  if (ignored) return pids;
  for (auto thread = begin(threads); thread != end(threads); thread.increment(ignored)) {
    std::ifstream file(thread->path() / "children");
    for (int64_t pid = 0; file >> pid;) pids.push_back(pid);
    if (ignored) break;
  }
  return pids;
}

}  // namespace

std::vector<StoppedProcess> stopped_children(int64_t parent) {
  std::vector<StoppedProcess> stopped;
  for (const int64_t pid : children(parent)) {
    const uint64_t start = process_start(pid);
    if (process_state(pid, start) == ProcessState::kStopped) stopped.push_back({pid, start});
  }
  return stopped;
}

std::string name_of_sibling(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/environ", pid));
  for (std::string entry; std::getline(file, entry, '\0');) {
    for (const std::string_view name : {"OMPI_COMM_WORLD_RANK=", "PMI_RANK=", "SLURM_PROCID="}) {
      if (entry.starts_with(name)) return fmt::format("rank {} (process {})", entry.substr(name.size()), pid);
    }
  }
  return fmt::format("process {}, which the launcher of this job started,", pid);
}

double start_limit_s() {
  constexpr double kDefault = 300;
  const char* const given = std::getenv("SHOAL_MPI_START_S");
  if (given == nullptr || *given == '\0') return kDefault;
  double seconds = 0;
  const std::string_view text = given;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || !(seconds >= 0)) {
    fail("SHOAL_MPI_START_S is '{}': expected the seconds that MPI may take to start, such as 300; 0: any", text);
  }
  return seconds;
}

SiblingWatch::SiblingWatch(bool launched, double start_limit_s) : launcher_(getppid()), start_limit_s_(start_limit_s) {
  if (!launched || launcher_ <= 1) return;  // where the launcher is gone, init has it for a child: no siblings
  looked_s_ = steady_s();
  thread_ = std::thread([this] { run(); });
}

SiblingWatch::~SiblingWatch() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_one();
  thread_.join();
}

void SiblingWatch::started() {
  const std::lock_guard lock(mutex_);
  starting_ = false;
}

void SiblingWatch::pause() {
  const std::lock_guard lock(mutex_);
  paused_ = true;
}

void SiblingWatch::resume() {
  const std::lock_guard lock(mutex_);
  paused_ = false;
}

void SiblingWatch::run() {
  pthread_setname_np(pthread_self(), "shoal-siblings");
  std::unique_lock lock(mutex_);
  while (!news_.wait_for(lock, std::chrono::duration<double>(kPeriodS), [this] { return stop_; })) {
    if (paused_) {
      stopped_since_s_.clear();
      looked_s_ = steady_s();
      continue;
    }
    const double since_last_s = steady_s() - looked_s_;
    const bool starting = starting_;
    lock.unlock();
    look(steady_s());
    if (starting) check_start(since_last_s);
    lock.lock();
  }
}

void SiblingWatch::look(double now_s) {
  if (now_s - looked_s_ > kOwnGapS) stopped_since_s_.clear();
  looked_s_ = now_s;
  std::map<StoppedProcess, double> since_s;
  for (const StoppedProcess& process : stopped_children(launcher_)) {
    const auto known = stopped_since_s_.find(process);
    since_s[process] = known == stopped_since_s_.end() ? now_s : known->second;
  }
  stopped_since_s_ = std::move(since_s);
  for (const auto& [process, seen_s] : stopped_since_s_) {
    if (now_s - seen_s <= kLimitS) continue;
    end(
        fmt::format("{} on {} has been stopped (SIGSTOP) for {:.0f} s, where no rank can do without it; the job ends. "
                    "Start it again, and leave its processes running",
                    name_of_sibling(process.pid), host_name(), kLimitS));
  }
}

// Of a job that was suspended as a whole only the time that it ran counts.
void SiblingWatch::check_start(double since_last_s) {
  waited_s_ += std::min(since_last_s, kOwnGapS);
  if (start_limit_s_ <= 0 || waited_s_ <= start_limit_s_) return;
  end(fmt::format(
      "MPI has not started within {:.0f} s: {} on {} is there and waits for others. Look for ranks of this job that "
      "are stopped (state T in ps) or are not there, and for nodes that do not reach this one over the network that "
      "MPI uses (--mca btl_tcp_if_include); then start it again. A job that needs longer: SHOAL_MPI_START_S=SECONDS "
      "(0: any)",
      start_limit_s_, name_of_sibling(getpid()), host_name()));
}

void SiblingWatch::end(const std::string& what) const {
  // One speaks; the others have a second to be ended by the launcher.
  const std::vector<int64_t> pids = children(launcher_);
  const bool first = std::ranges::all_of(pids, [&](int64_t pid) {
    return pid >= getpid() || process_state(pid, process_start(pid)) != ProcessState::kAlive;
  });
  if (!first) std::this_thread::sleep_for(std::chrono::seconds(1));
  fmt::print(stderr, "error: {}\n", what);
  std::fflush(stderr);
  std::_Exit(kWatchdogExit);
}

}  // namespace shoal
