// parallel/timer_thread.cpp: the earliest first.
#include "parallel/timer_thread.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <chrono>
#include <utility>

namespace shoal {

TimerThread::TimerThread() : thread_([this] { run(); }) {}

TimerThread::~TimerThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_one();
  thread_.join();
}

void TimerThread::at(int64_t due_ns, std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    calls_.emplace(due_ns, std::move(call));
  }
  news_.notify_one();
}

void TimerThread::run() {
  pthread_setname_np(pthread_self(), "shoal-timer");
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns; by default the kernel may add 50 µs to every sleep
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (calls_.empty()) {
      news_.wait(lock);
      continue;
    }
    const auto first = calls_.begin();
    const std::chrono::steady_clock::time_point due{std::chrono::nanoseconds(first->first)};
    if (std::chrono::steady_clock::now() < due) {
      news_.wait_until(lock, due);
      continue;
    }
    auto call = std::move(first->second);
    calls_.erase(first);
    lock.unlock();
    call();
    call = nullptr;  // what it holds goes without the lock
    lock.lock();
  }
}

}  // namespace shoal
