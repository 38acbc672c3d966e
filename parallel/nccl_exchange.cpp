// parallel/nccl_exchange.cpp: wait for the compute queue, call NCCL, sum, leave an event behind.
#include "parallel/nccl_exchange.h"

#include <limits>
#include <utility>

#include "parallel/group_id.h"
#include "parallel/queue_operation.h"

namespace shoal {

NcclRuntime::NcclRuntime(const NcclLibrary& nccl, Allocator& gpu)
    : library(nccl),
      scratch(gpu),
      watch(std::make_shared<NcclWatch>()),
      critical(create_cuda_queue(QueueUrgency::kUrgent)),
      bulk(create_cuda_queue()) {}

NcclRuntime::~NcclRuntime() {
  critical_delay.reset();
  bulk_delay.reset();
  destroy_cuda_queue(critical);
  destroy_cuda_queue(bulk);
}

// NCCL cuts messages itself.
NcclExchange::NcclExchange(std::shared_ptr<Communicator> host, std::shared_ptr<NcclRuntime> runtime, CudaQueue wire,
                           std::string who)
    : ExchangeCommunicator(&runtime->scratch, std::numeric_limits<int64_t>::max()),
      host_(std::move(host)),
      runtime_(std::move(runtime)),
      wire_(wire),
      ready_(create_cuda_event()),
      who_(std::move(who)) {
  record_in(host_->flight(), Completion::kOnDevice);
  if (const auto links = host_->emulated_links(); links != nullptr && host_->size() > 1) {
    links_ = std::make_shared<GroupLinks>(links->emulator(), id(), links->members(), rank());
  }
}

NcclExchange::~NcclExchange() { destroy_cuda_event(ready_); }

std::unique_ptr<Communicator> NcclExchange::group(const std::vector<int>& /*ranks*/) {
  fail("groups are made by NcclCommunicator");
}

// Each wire counts its own rounds.
uint64_t NcclExchange::id() const { return group_id(host_->id(), wire_ == runtime_->bulk ? -2 : -1, {}); }

QueueDelay* NcclExchange::delay() {
  if (links_ == nullptr) return nullptr;
  std::unique_ptr<QueueDelay>& delay = wire_ == runtime_->bulk ? runtime_->bulk_delay : runtime_->critical_delay;
  if (delay == nullptr) delay = std::make_unique<QueueDelay>(wire_);
  return delay.get();
}

void NcclExchange::connect() {
  if (nccl_ != nullptr || !uses_nccl()) return;
  const WireBytes before = host_->bytes();
  nccl_ = std::make_unique<NcclGroup>(runtime_->library, *host_, wire_, who_, runtime_->watch);
  bytes_to_connect_ = host_->bytes() - before;
}

OperationPtr NcclExchange::start(std::shared_ptr<Exchange> exchange) {
  runtime_->watch->check();
  connect();  // by every rank, also one that has nothing to send
  std::vector<Tensor> buffers = exchange->buffers();
  // What was queued so far wrote what is sent, read what is overwritten, and made room for the scratch.
  for (const CudaQueue queue : queues_of(buffers)) {
    record_cuda_event(ready_, queue);
    make_queue_wait(wire_, ready_);
  }
  const SharedCudaEvent begin = runtime_->events.record(wire_);
  do {
    if (delay() != nullptr) delay()->before(exchange->round(), links_);
    post(exchange->round());
    if (delay() != nullptr) delay()->after();
  } while (exchange->arrived());  // the sum, on the wire's queue
  exchange->wait();               // rethrows what it met
  WireSpan span = exchange->span();
  span.posted_ns = span.completed_ns = 0;  // the host's: the queue comes to it later
  span.begin = begin;
  span.end = runtime_->events.record(wire_);
  return std::make_shared<QueueOperation>(
      std::move(buffers), [watch = runtime_->watch] { watch->check(); }, std::move(span));
}

void NcclExchange::post(const Round& round) {
  const bool sends_own = runtime_->own_pieces_too && round.own.bytes > 0;
  if (!sends_own) copy_own(round.own, wire_);
  if (!uses_nccl()) return;
  const NcclLibrary& nccl = runtime_->library;
  const Collective& whole = round.collective;
  const size_t bytes = static_cast<size_t>(whole.bytes);
  switch (whole.kind) {
    case Collective::Kind::kAllGather:
      return nccl_->call("ncclAllGather", [&](NcclHandle handle) {
        return nccl.all_gather(whole.data + rank() * whole.bytes, whole.data, bytes, kNcclByte, handle, wire_);
      });
    case Collective::Kind::kBroadcast:
      return nccl_->call("ncclBroadcast", [&](NcclHandle handle) {
        return nccl.broadcast(whole.data, whole.data, bytes, kNcclByte, whole.root, handle, wire_);
      });
    case Collective::Kind::kNone: break;
  }
  if (round.sends.empty() && round.receives.empty() && !sends_own) return;
  nccl_->call("a group of ncclSend and ncclRecv", [&](NcclHandle handle) { return send_and_receive(round, handle); });
}

// In one group: they go on side by side, or two ranks that send to each other would wait for ever.
int NcclExchange::send_and_receive(const Round& round, NcclHandle handle) const {
  const NcclLibrary& nccl = runtime_->library;
  int result = nccl.group_start();
  const auto send = [&](const std::byte* from, int64_t bytes, int peer) {
    if (result != kNcclSuccess) return;
    result = nccl.send(from, static_cast<size_t>(bytes), kNcclByte, peer, handle, wire_);
  };
  const auto receive = [&](std::byte* to, int64_t bytes, int peer) {
    if (result != kNcclSuccess) return;
    result = nccl.receive(to, static_cast<size_t>(bytes), kNcclByte, peer, handle, wire_);
  };
  for (const Message& message : round.sends) send(message.data, message.bytes, message.peer);
  for (const Message& message : round.receives) receive(message.data, message.bytes, message.peer);
  if (runtime_->own_pieces_too && round.own.bytes > 0) {
    send(round.own.from, round.own.bytes, rank());
    receive(round.own.to, round.own.bytes, rank());
  }
  const int ended = nccl.group_end();  // also after an error: NCCL counts its groups
  return result != kNcclSuccess ? result : ended;
}

}  // namespace shoal
