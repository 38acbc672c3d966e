// core/train/stop_request.cpp: a flag that signals set.
#include "core/train/stop_request.h"

#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "core/base/check.h"

namespace shoal {

namespace {

std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free, "set by a signal handler");

constexpr std::array kSignals{SIGUSR1, SIGUSR2, SIGTERM};
std::array<struct sigaction, kSignals.size()> previous;

void note_signal(int signal) { received.store(signal, std::memory_order_relaxed); }

}  // namespace

StopRequest::StopRequest(const TrainConfig& config) {
  received.store(0);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction action {};
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;  // a write that is under way goes on
    sigemptyset(&action.sa_mask);
    ::sigaction(kSignals[i], &action, &previous[i]);
  }
  if (config.stop_after_minutes() > 0) {
    stop_at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(60 * config.stop_after_minutes()));
  }
  slurm_end_ = parse_end_time(std::getenv("SLURM_JOB_END_TIME"));
}

StopRequest::~StopRequest() {
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &previous[i], nullptr);
}

int StopRequest::last_signal() { return received.load(std::memory_order_relaxed); }

std::optional<StopRequest::Clock::time_point> StopRequest::parse_end_time(const char* text) {
  if (text == nullptr) return std::nullopt;
  int64_t seconds = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, seconds);
  if (error != std::errc() || stop != end || seconds <= 0 || seconds > int64_t{1} << 40) return std::nullopt;
  return Clock::time_point(std::chrono::seconds(seconds));
}

std::string StopRequest::reason(std::chrono::duration<double> next_step_and_save) const {
  if (const int signal = last_signal(); signal != 0) {
    return fmt::format("signal {} ({})", signal, ::strsignal(signal));
  }
  const Clock::time_point now = Clock::now();
  if (stop_at_ && now >= *stop_at_) return "train.stop_after_minutes is over";
  if (slurm_end_ && now + next_step_and_save >= *slurm_end_) return "Slurm ends the job soon";
  return {};
}

}  // namespace shoal
