// parallel/sibling_watch.cpp: the launcher's children, four times a second.
#include "parallel/sibling_watch.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

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

SiblingWatch::SiblingWatch(bool launched) : launcher_(getppid()) {
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
    lock.unlock();
    look(steady_s());
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
    if (now_s - seen_s > kLimitS) end(process);
  }
}

void SiblingWatch::end(const StoppedProcess& process) const {
  // One speaks; the others have a second to be ended by the launcher.
  const std::vector<int64_t> pids = children(launcher_);
  const bool first = std::ranges::all_of(pids, [&](int64_t pid) {
    return pid >= getpid() || process_state(pid, process_start(pid)) != ProcessState::kAlive;
  });
  if (!first) std::this_thread::sleep_for(std::chrono::seconds(1));
  fmt::print(stderr,
             "error: {} on {} has been stopped (SIGSTOP) for {:.0f} s, where no rank can do without it; the job ends. "
             "Start it again, and leave its processes running\n",
             name_of_sibling(process.pid), host_name(), kLimitS);
  std::fflush(stderr);
  std::_Exit(kWatchdogExit);
}

}  // namespace shoal
