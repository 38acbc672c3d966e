// tests/parallel/sibling_watch_test.cpp: a stopped child is seen, named, and forgotten once it goes on.
// That a whole job ends by it: tests/cli/watchdog_test.py.
#include "parallel/sibling_watch.h"

#include <catch2/catch.hpp>
#include <spawn.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>

#include "parallel/process_facts.h"

namespace shoal {

namespace {

// A process that sleeps, as a launcher starts ranks; ended with this object.
class Sleeper {
 public:
  explicit Sleeper(std::string variable) {
    std::string program = "sleep", seconds = "60";
    const std::array<char*, 3> arguments{program.data(), seconds.data(), nullptr};
    const std::array<char*, 2> environment{variable.data(), nullptr};
    REQUIRE(posix_spawnp(&pid_, "sleep", nullptr, nullptr, arguments.data(), environment.data()) == 0);
  }
  ~Sleeper() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  // Returns once the signal has done what it does.
  void send(int signal) const {
    REQUIRE(kill(pid_, signal) == 0);
    int status = 0;
    REQUIRE(waitpid(pid_, &status, WUNTRACED | WCONTINUED) == pid_);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

bool is_seen(pid_t pid) {
  for (const StoppedProcess& process : stopped_children(getpid())) {
    if (process.pid == pid) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a stopped child is seen until it goes on") {
  const Sleeper runs("OMPI_COMM_WORLD_RANK=2"), stops("OMPI_COMM_WORLD_RANK=3");
  CHECK_FALSE(is_seen(stops.pid()));
  stops.send(SIGSTOP);
  CHECK(is_seen(stops.pid()));
  CHECK_FALSE(is_seen(runs.pid()));
  CHECK(name_of_sibling(stops.pid()).starts_with("rank 3 (process "));
  stops.send(SIGCONT);
  CHECK_FALSE(is_seen(stops.pid()));
}

TEST_CASE("a child that a debugger holds is let be") {
  const Sleeper held("OMPI_COMM_WORLD_RANK=1");
  if (ptrace(PTRACE_SEIZE, held.pid(), nullptr, nullptr) != 0) {
    WARN("skipped: processes cannot be traced here");
    return;
  }
  REQUIRE(ptrace(PTRACE_INTERRUPT, held.pid(), nullptr, nullptr) == 0);
  REQUIRE(waitpid(held.pid(), nullptr, 0) == held.pid());
  CHECK(process_state(held.pid(), process_start(held.pid())) == ProcessState::kTraced);
  CHECK_FALSE(is_seen(held.pid()));
}

TEST_CASE("a process without a rank is named by its number; one that is not there has no children") {
  const Sleeper sleeper("HOME=/");
  const std::string number = std::to_string(sleeper.pid());
  CHECK(name_of_sibling(sleeper.pid()).starts_with("process " + number));
  CHECK(stopped_children(sleeper.pid()).empty());
  CHECK(stopped_children(-1).empty());
}

namespace {

// How a process ends in which MPI starts within `start_s`, and what it says.
std::pair<int, std::string> start_of_mpi(double start_s, double limit_s) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    SiblingWatch watch(true, limit_s);
    std::this_thread::sleep_for(std::chrono::duration<double>(start_s));
    watch.started();
    std::this_thread::sleep_for(std::chrono::duration<double>(2 * limit_s + 1));  // no limit any more
    _exit(7);
  }
  REQUIRE(child > 0);
  close(ends[1]);
  std::string said;
  for (char byte = 0; read(ends[0], &byte, 1) == 1;) said += byte;
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, said};
}

}  // namespace

TEST_CASE("MPI that does not come to start ends the process, with what to look at") {
  const auto [late, said] = start_of_mpi(60, 0.6);
  CHECK(late == kWatchdogExit);
  CHECK_THAT(said, Catch::Matchers::Contains("MPI has not started within 1 s") &&
                       Catch::Matchers::Contains("is there and waits for others") &&
                       Catch::Matchers::Contains("SHOAL_MPI_START_S"));
  CHECK(start_of_mpi(0.1, 0.8) == std::pair<int, std::string>(7, ""));
  CHECK(start_of_mpi(1, 0) == std::pair<int, std::string>(7, ""));
}

TEST_CASE("how long MPI may take to start") {
  unsetenv("SHOAL_MPI_START_S");
  CHECK(start_limit_s() == 300);
  for (const auto& [text, seconds] : {std::pair{"12.5", 12.5}, {"0", 0.0}, {"", 300.0}}) {
    setenv("SHOAL_MPI_START_S", text, 1);
    CHECK(start_limit_s() == seconds);
  }
  for (const char* text : {"soon", "-1", "nan", "10s"}) {
    setenv("SHOAL_MPI_START_S", text, 1);
    CHECK_THROWS_WITH(start_limit_s(), Catch::Matchers::Contains("expected the seconds that MPI may take to start"));
  }
  unsetenv("SHOAL_MPI_START_S");
}

TEST_CASE("without a launcher, and paused, nothing is watched") {
  SiblingWatch alone(false, 300);
  alone.pause();
  alone.resume();
  SiblingWatch watch(true, 300);
  watch.pause();
}

}  // namespace shoal
