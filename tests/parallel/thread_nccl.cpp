// tests/parallel/thread_nccl.cpp: a mailbox for each pair of ranks; the receiver copies, on its queue, behind the
// sender's.
#include "tests/parallel/thread_nccl.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "parallel/thread_communicator.h"
#include "tests/parallel/communicator_checks.h"

namespace {

using namespace shoal;

constexpr int kInvalidArgument = 4, kInvalidUsage = 5, kRemoteError = 6;
constexpr std::chrono::seconds kPatience{60};  // a peer that does not come has failed

struct Letter {
  const void* from = nullptr;
  size_t bytes = 0;
  CudaEvent written = nullptr;  // on the sender's queue
  CudaEvent copied = nullptr;   // on the receiver's; null until it has come
  ~Letter() {
    destroy_cuda_event(written);
    if (copied != nullptr) destroy_cuda_event(copied);
  }
};
using LetterPtr = std::shared_ptr<Letter>;

struct Clique {
  std::mutex mutex;
  std::condition_variable news;
  int num_joined = 0;
  bool aborted = false;
  std::map<std::pair<int, int>, std::deque<LetterPtr>> mail;  // from, to

  template <class Condition>
  bool wait_until(std::unique_lock<std::mutex>& lock, Condition&& condition) {
    return news.wait_for(lock, kPatience, [&] { return condition() || aborted; }) && !aborted;
  }
};

std::atomic<int> failing_rank = -1;

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank = 0, num_ranks = 0;
  bool fails = false;
};

namespace {

struct Posted {
  ncclComm* comm = nullptr;
  int peer = 0;
  CudaQueue queue = nullptr;
  const void* from = nullptr;  // null: it is received
  void* to = nullptr;
  size_t bytes = 0;
  LetterPtr letter = nullptr;
};
thread_local int depth = 0;
thread_local std::vector<Posted> posted;

CudaEvent event_on(CudaQueue queue) {
  const CudaEvent event = create_cuda_event();
  record_cuda_event(event, queue);
  return event;
}

void copy(void* to, const void* from, size_t bytes, CudaQueue queue) {
  const auto width = static_cast<int64_t>(bytes);
  copy_rows_cuda({to, width, from, width, width, 1}, queue, CopyWait::kReturnsAtOnce);
}

void send(Posted& one) {
  one.letter = std::make_shared<Letter>();
  one.letter->from = one.from;
  one.letter->bytes = one.bytes;
  one.letter->written = event_on(one.queue);
  Clique& clique = *one.comm->clique;
  const std::lock_guard lock(clique.mutex);
  clique.mail[{one.comm->rank, one.peer}].push_back(one.letter);
  clique.news.notify_all();
}

int receive(Posted& one) {
  Clique& clique = *one.comm->clique;
  std::unique_lock lock(clique.mutex);
  auto& mail = clique.mail[{one.peer, one.comm->rank}];
  if (!clique.wait_until(lock, [&] { return !mail.empty(); })) return kRemoteError;
  const LetterPtr letter = mail.front();
  mail.pop_front();
  if (letter->bytes != one.bytes) return kInvalidArgument;
  make_queue_wait(one.queue, letter->written);
  copy(one.to, letter->from, one.bytes, one.queue);
  letter->copied = event_on(one.queue);
  clique.news.notify_all();
  return kNcclSuccess;
}

// What comes behind on the sender's queue may overwrite what was sent.
int see_off(Posted& one) {
  Clique& clique = *one.comm->clique;
  std::unique_lock lock(clique.mutex);
  if (!clique.wait_until(lock, [&] { return one.letter->copied != nullptr; })) return kRemoteError;
  make_queue_wait(one.queue, one.letter->copied);
  return kNcclSuccess;
}

int group_start() {
  ++depth;
  return kNcclSuccess;
}

int group_end() {
  if (depth == 0) return kInvalidUsage;
  if (--depth > 0) return kNcclSuccess;
  std::vector<Posted> all = std::move(posted);
  posted.clear();
  int result = kNcclSuccess;
  for (Posted& one : all) {
    if (one.from != nullptr) send(one);
  }
  for (Posted& one : all) {
    if (one.from == nullptr && result == kNcclSuccess) result = receive(one);
  }
  for (Posted& one : all) {
    if (one.from != nullptr && result == kNcclSuccess) result = see_off(one);
  }
  return result;
}

int post(const Posted& one) {
  if (one.bytes == 0 || one.peer < 0 || one.peer >= one.comm->num_ranks) return kInvalidArgument;
  group_start();
  posted.push_back(one);
  return group_end();
}

int post_send(const void* from, size_t bytes, int, int peer, NcclHandle comm, CudaQueue queue) {
  return post({.comm = comm, .peer = peer, .queue = queue, .from = from, .bytes = bytes});
}
int post_receive(void* to, size_t bytes, int, int peer, NcclHandle comm, CudaQueue queue) {
  return post({.comm = comm, .peer = peer, .queue = queue, .to = to, .bytes = bytes});
}

int all_gather(const void* piece, void* all, size_t bytes, int type, NcclHandle comm, CudaQueue queue) {
  const auto place = [&](int rank) { return static_cast<std::byte*>(all) + static_cast<size_t>(rank) * bytes; };
  if (piece != place(comm->rank)) copy(place(comm->rank), piece, bytes, queue);
  group_start();
  for (int rank = 0; rank < comm->num_ranks; ++rank) {
    if (rank == comm->rank) continue;
    post_send(piece, bytes, type, rank, comm, queue);
    post_receive(place(rank), bytes, type, rank, comm, queue);
  }
  return group_end();
}

int broadcast(const void* from, void* to, size_t bytes, int type, int root, NcclHandle comm, CudaQueue queue) {
  if (comm->rank != root) return post_receive(to, bytes, type, root, comm, queue);
  group_start();
  for (int rank = 0; rank < comm->num_ranks; ++rank) {
    if (rank != root) post_send(from, bytes, type, rank, comm, queue);
  }
  return group_end();
}

int make_id(NcclId* id) {
  static std::atomic<int> next = 1;
  *id = {};
  const int number = next++;
  std::memcpy(id->bytes, &number, sizeof(number));
  return kNcclSuccess;
}

int init_rank(NcclHandle* made, int num_ranks, NcclId id, int rank) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Clique>> cliques;
  auto comm = std::make_unique<ncclComm>();
  {
    const std::lock_guard lock(mutex);
    std::weak_ptr<Clique>& known = cliques[std::string(id.bytes, sizeof(id.bytes))];
    comm->clique = known.lock();
    if (comm->clique == nullptr) known = comm->clique = std::make_shared<Clique>();
  }
  comm->rank = rank;
  comm->num_ranks = num_ranks;
  comm->fails = rank == failing_rank;
  Clique& clique = *comm->clique;
  std::unique_lock lock(clique.mutex);
  ++clique.num_joined;
  clique.news.notify_all();
  if (!clique.wait_until(lock, [&] { return clique.num_joined >= num_ranks; })) return kRemoteError;
  *made = comm.release();
  return kNcclSuccess;
}

int destroy(NcclHandle comm) {
  delete comm;
  return kNcclSuccess;
}

int abort(NcclHandle comm) {
  {
    const std::lock_guard lock(comm->clique->mutex);
    comm->clique->aborted = true;
    comm->clique->news.notify_all();
  }
  return destroy(comm);
}

int async_error(NcclHandle comm, int* error) {
  *error = comm->fails ? kRemoteError : kNcclSuccess;
  return kNcclSuccess;
}

int version(int* number) {
  *number = 22809;
  return kNcclSuccess;
}

const char* error_text(int error) {
  return error == kRemoteError ? "remote process exited or there was a network error" : "unlike what was expected";
}

}  // namespace

namespace shoal {

const NcclLibrary& thread_nccl() {
  static const NcclLibrary library{.version = version,
                                   .make_id = make_id,
                                   .init_rank = init_rank,
                                   .destroy = destroy,
                                   .abort = abort,
                                   .async_error = async_error,
                                   .error_text = error_text,
                                   .last_error = nullptr,
                                   .group_start = group_start,
                                   .group_end = group_end,
                                   .send = post_send,
                                   .receive = post_receive,
                                   .all_gather = all_gather,
                                   .broadcast = broadcast};
  return library;
}

void set_thread_nccl_failure(int rank) { failing_rank = rank; }

void run_nccl_ranks(int size, const std::function<void(NcclCommunicator& world, Allocator& gpu)>& body,
                    const std::optional<EmulatedLinks>& emulate) {
  run_thread_ranks(size, {.ranks_per_node = 2, .emulate = emulate}, [&](Communicator& threads, Allocator&) {
    Allocator gpu(DeviceKind::kCuda);
    const std::shared_ptr<Communicator> host = threads.group(all_ranks(threads));
    NcclCommunicator world(host, gpu, thread_nccl());
    const MemoryOfChecks memory(gpu);
    body(world, gpu);
  });
}

}  // namespace shoal
