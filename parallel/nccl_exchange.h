// parallel/nccl_exchange.h: rounds over NCCL: a GPU's tensors, from one queue of the wire.
//
// All-gathers of equal pieces and broadcasts are NCCL's own; every other round is a group of sends and receives. Sums
// are the house's, in the order of ranks, so that the bits are those of every other back end; NCCL's reductions add in
// an order that depends on its choice of ring or tree.
#pragma once

#include <memory>
#include <string>

#include "parallel/exchange_communicator.h"
#include "parallel/nccl_watch.h"
#include "parallel/queue_delay.h"

namespace shoal {

// What the groups of a process share. Activations and tokens, which somebody waits for at once, have one queue,
// gradients and weights another: operations of one queue follow one another, in the order in which all ranks post them.
struct NcclRuntime {
  NcclRuntime(const NcclLibrary& library, Allocator& scratch);
  ~NcclRuntime();
  NcclRuntime(const NcclRuntime&) = delete;
  NcclRuntime& operator=(const NcclRuntime&) = delete;

  const NcclLibrary& library;
  Allocator& scratch;  // the GPU's; outlives the groups
  std::shared_ptr<NcclWatch> watch;
  CudaQueue critical = nullptr, bulk = nullptr;
  CudaEventPool events;
  std::unique_ptr<QueueDelay> critical_delay, bulk_delay;  // of those two, where links are emulated
  // A group of one calls NCCL too, and what a rank keeps is sent to itself: for tests, and to try an installation.
  bool own_pieces_too = false;
};

class NcclExchange final : public ExchangeCommunicator {
 public:
  // `host`: the same ranks, over MPI. `who`: this rank, for errors. NCCL's handle is made at the first verb, which
  // blocks: a mesh has more groups than a model uses, and each handle takes memory of the GPU.
  NcclExchange(std::shared_ptr<Communicator> host, std::shared_ptr<NcclRuntime> runtime, CudaQueue wire,
               std::string who);
  ~NcclExchange() override;

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  int node(int rank) const override { return host_->node(rank); }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;
  uint64_t id() const override;

  // Collective and blocking: the handle, made if it is not there. Throws when NCCL refuses.
  void connect();
  // What `host` counted for that: no message of the model's.
  const WireBytes& bytes_to_connect() const { return bytes_to_connect_; }

 protected:
  OperationPtr start(std::shared_ptr<Exchange> exchange) override;
  CudaQueue local_queue(const Tensor& /*x*/) const override { return wire_; }

 private:
  bool uses_nccl() const { return size() > 1 || runtime_->own_pieces_too; }
  void post(const Round& round);
  int send_and_receive(const Round& round, NcclHandle handle) const;
  // Of this wire; null where links are as they are.
  QueueDelay* delay();

  std::shared_ptr<Communicator> host_;
  std::shared_ptr<NcclRuntime> runtime_;
  CudaQueue wire_;
  CudaEvent ready_;  // of the compute queue, when an operation is posted
  std::string who_;
  std::unique_ptr<NcclGroup> nccl_;
  WireBytes bytes_to_connect_;
  std::shared_ptr<const GroupLinks> links_;  // emulated, or null
};

}  // namespace shoal
