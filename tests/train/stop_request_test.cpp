// tests/train/stop_request_test.cpp: signals and ends of time.
#include "core/train/stop_request.h"

#include <catch2/catch.hpp>

#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>

using namespace shoal;

namespace {

using Seconds = std::chrono::duration<double>;

std::string now_in(double seconds) {
  const auto now = StopRequest::Clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now + Seconds(seconds)).count());
}

}  // namespace

TEST_CASE("nothing stops a run that nobody stops") {
  ::unsetenv("SLURM_JOB_END_TIME");
  const StopRequest stop{TrainConfig()};
  CHECK(stop.reason(Seconds(1e9)).empty());
}

TEST_CASE("USR1, USR2 and TERM ask for a stop and end nothing; afterwards they are as before") {
  ::unsetenv("SLURM_JOB_END_TIME");
  struct sigaction before {};
  ::sigaction(SIGUSR2, nullptr, &before);
  for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM}) {
    const StopRequest stop{TrainConfig()};
    CHECK(stop.reason(Seconds(0)).empty());  // an earlier one's signal is forgotten
    ::raise(signal);
    CHECK(stop.reason(Seconds(0)).find("signal " + std::to_string(signal)) == 0);
  }
  struct sigaction after {};
  ::sigaction(SIGUSR2, nullptr, &after);
  CHECK(after.sa_handler == before.sa_handler);
}

TEST_CASE("train.stop_after_minutes is counted from the start") {
  ::unsetenv("SLURM_JOB_END_TIME");
  TrainConfig config;
  config.set_stop_after_minutes(0.05 / 60);
  const StopRequest stop{config};
  CHECK(stop.reason(Seconds(0)).empty());
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  CHECK(stop.reason(Seconds(0)) == "train.stop_after_minutes is over");
}

TEST_CASE("Slurm's end of the job counts what is still to be done before it") {
  ::setenv("SLURM_JOB_END_TIME", now_in(100).c_str(), 1);
  {
    const StopRequest stop{TrainConfig()};
    CHECK(stop.reason(Seconds(10)).empty());
    CHECK(stop.reason(Seconds(110)) == "Slurm ends the job soon");
  }
  ::unsetenv("SLURM_JOB_END_TIME");
  for (const char* text : {"", "x", "12x", " 12", "-5", "0", "99999999999999999999", "9223372036854775807", "1.5"}) {
    CHECK_FALSE(StopRequest::parse_end_time(text));
  }
  CHECK_FALSE(StopRequest::parse_end_time(nullptr));
  CHECK(StopRequest::parse_end_time("1700000000")->time_since_epoch() == std::chrono::seconds(1'700'000'000));
}
