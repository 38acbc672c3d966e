// parallel/nccl_watch.h: NCCL's handles of this process, and the thread that looks after them.
//
// A rank whose peer or network is gone would wait for ever, in a kernel that nobody ends. The watch asks every handle
// for errors some times a second; when one has failed it says so, names the rank, and aborts all of this process, as
// their kernels share queues. The compute thread, whose GPU goes on, then meets the same sentence at its next operation
// and ends the job.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/nccl_library.h"

namespace shoal {

class NcclGroup;

class NcclWatch {
 public:
  NcclWatch();
  ~NcclWatch();
  NcclWatch(const NcclWatch&) = delete;
  NcclWatch& operator=(const NcclWatch&) = delete;

  void add(NcclGroup* group);
  void remove(NcclGroup* group);  // when it returns, the watch does not touch it any more
  // Throws once something has failed.
  void check() const;

 private:
  void run();
  void look();

  std::mutex mutex_;
  std::condition_variable news_;
  bool stop_ = false;
  std::vector<NcclGroup*> groups_;
  std::string error_;  // written once, before failed_
  std::atomic<bool> failed_ = false;
  std::thread thread_;
};

// One handle: this rank in one group of ranks. Its calls come from one thread, and the watch's.
class NcclGroup {
 public:
  // Collective and blocking: the group's rank 0 makes an id, `host` takes it to the others. `who`: this rank, for
  // errors. Throws when NCCL refuses. The handle is destroyed when its `wire`, the queue of its calls, has come to its
  // end; while an exception leaves it is aborted instead, as its peers may never come.
  NcclGroup(const NcclLibrary& library, Communicator& host, CudaQueue wire, std::string who,
            std::shared_ptr<NcclWatch> watch);
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  // Calls NCCL, `calls(handle)`, unless something has failed; throws with NCCL's words. `what` names the call.
  template <class Calls>
  void call(const char* what, Calls&& calls) {
    const std::lock_guard lock(in_call_);
    watch_->check();
    check(calls(handle_), what);
  }

 private:
  friend class NcclWatch;
  // For the watch: what has gone wrong, or empty; the end of its kernels.
  std::string async_error();
  void abort();

  void check(int result, const char* what) const;
  std::string words(int result) const;

  const NcclLibrary& library_;
  CudaQueue wire_;
  std::string who_;
  std::shared_ptr<NcclWatch> watch_;
  int num_exceptions_at_start_;
  NcclHandle handle_ = nullptr;
  std::timed_mutex in_call_;
  bool aborted_ = false;  // by the watch
};

}  // namespace shoal
