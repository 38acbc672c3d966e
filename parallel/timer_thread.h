// parallel/timer_thread.h: a thread that calls what is due, and sleeps till then.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace shoal {

class TimerThread {
 public:
  TimerThread();
  // What is not due yet is dropped; a call under way ends first.
  ~TimerThread();
  TimerThread(const TimerThread&) = delete;
  TimerThread& operator=(const TimerThread&) = delete;

  // `call` runs on the timer's thread at `due_ns` of the steady clock, or soon afterwards; it must not throw.
  void at(int64_t due_ns, std::function<void()> call);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable news_;
  std::multimap<int64_t, std::function<void()>> calls_;  // by when they are due
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace shoal
