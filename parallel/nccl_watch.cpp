// parallel/nccl_watch.cpp: handles made, asked after, ended.
#include "parallel/nccl_watch.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <utility>

#include "parallel/peer_failed.h"

namespace shoal {

namespace {

constexpr std::chrono::milliseconds kBetweenLooks{200};
// A call that takes longer than this waits for a peer, and ncclCommAbort is what ends it.
constexpr std::chrono::seconds kLongestCall{2};

// The id of rank 0, or none where it could not make one: then nobody waits for the others.
bool share_id(const NcclLibrary& library, Communicator& host, NcclId& id) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor word = Tensor::zeros({1 + int64_t{sizeof(NcclId)}}, DType::kU8, allocator, MemoryKind::kWorkspace);
  uint8_t* const bytes = word.data<uint8_t>();
  if (host.rank() == 0 && library.make_id(&id) == kNcclSuccess) {
    bytes[0] = 1;
    std::memcpy(bytes + 1, id.bytes, sizeof(NcclId));
  }
  wait(host.broadcast(word, 0));
  std::memcpy(id.bytes, bytes + 1, sizeof(NcclId));
  return bytes[0] == 1;
}

}  // namespace

NcclWatch::NcclWatch() : thread_([this] { run(); }) {}

NcclWatch::~NcclWatch() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_one();
  thread_.join();
}

void NcclWatch::add(NcclGroup* group) {
  const std::lock_guard lock(mutex_);
  groups_.push_back(group);
}

void NcclWatch::remove(NcclGroup* group) {
  const std::lock_guard lock(mutex_);
  std::erase(groups_, group);
}

void NcclWatch::check() const {
  if (failed_.load(std::memory_order_acquire)) throw PeerFailed(error_);
}

void NcclWatch::run() {
  pthread_setname_np(pthread_self(), "shoal-nccl");
  std::unique_lock lock(mutex_);
  while (!news_.wait_for(lock, kBetweenLooks, [this] { return stop_; })) {
    if (!failed_) look();
  }
}

void NcclWatch::look() {
  for (NcclGroup* group : groups_) {
    error_ = group->async_error();
    if (!error_.empty()) break;
  }
  if (error_.empty()) return;
  failed_.store(true, std::memory_order_release);  // nobody begins a call any more
  spdlog::error("{}", error_);
  for (NcclGroup* group : groups_) group->abort();
}

NcclGroup::NcclGroup(const NcclLibrary& library, Communicator& host, CudaQueue wire, std::string who,
                     std::shared_ptr<NcclWatch> watch)
    : library_(library),
      wire_(wire),
      who_(std::move(who)),
      watch_(std::move(watch)),
      num_exceptions_at_start_(std::uncaught_exceptions()) {
  NcclId id{};
  if (!share_id(library_, host, id)) fail("NCCL: ncclGetUniqueId failed on the first rank of {}", who_);
  // Blocking: a handle that is not would start a thread for every operation. A peer that dies meanwhile is MPI's to
  // notice.
  check(library_.init_rank(&handle_, host.size(), id, host.rank()), "ncclCommInitRank");
  watch_->add(this);
}

NcclGroup::~NcclGroup() {
  const bool leaving = std::uncaught_exceptions() > num_exceptions_at_start_;
  try {
    if (!leaving) wait_for_cuda_queue(wire_);  // under the watch's eyes
  } catch (const Error&) {
    // The device has failed: whoever uses it next is told.
  }
  watch_->remove(this);
  if (handle_ == nullptr || aborted_) return;
  leaving ? library_.abort(handle_) : library_.destroy(handle_);
}

std::string NcclGroup::words(int result) const {
  const char* last = library_.last_error != nullptr ? library_.last_error(handle_) : nullptr;
  std::string text = library_.error_text(result);
  if (last != nullptr && *last != 0) text += fmt::format(" ({})", last);
  return text;
}

void NcclGroup::check(int result, const char* what) const {
  if (result == kNcclSuccess) return;
  watch_->check();  // what the watch has seen is the cause
  fail("NCCL: {} failed on {}: {}; NCCL_DEBUG=WARN says more", what, who_, words(result));
}

std::string NcclGroup::async_error() {
  int state = kNcclSuccess;
  const int asked = library_.async_error(handle_, &state);
  if (asked != kNcclSuccess) state = asked;
  if (state == kNcclSuccess || state == kNcclInProgress) return {};
  return fmt::format("NCCL: messages failed on {}: {}; a peer or the network is gone (NCCL_DEBUG=WARN says more)", who_,
                     words(state));
}

void NcclGroup::abort() {
  // Not while a call is on its way, which would go on with a handle that is gone; unless it is stuck.
  std::unique_lock lock(in_call_, kLongestCall);
  aborted_ = true;
  library_.abort(handle_);
}

}  // namespace shoal
