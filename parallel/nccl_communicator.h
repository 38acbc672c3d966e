// parallel/nccl_communicator.h: collectives between GPUs over NCCL, one GPU a rank; tensors on the host go over MPI.
//
// What is posted is queued on the GPU beside the computation (queue_operation.h), and nobody waits on the host. A
// group's handles of NCCL, one for activations and tokens and one for gradients and weights (bulk()), are made when
// they are first used; ids travel over MPI. Bytes are counted as on every other back end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace shoal {

class NcclExchange;
struct NcclLibrary;
struct NcclRuntime;

struct NcclOptions {
  bool own_pieces_too = false;  // NcclRuntime
};

class NcclCommunicator final : public Communicator {
 public:
  // Collective and blocking: connects the GPUs of all ranks of `host`; throws when NCCL refuses. This thread's device
  // is the rank's. `scratch`, of the GPU, and `library` must outlive it.
  NcclCommunicator(std::shared_ptr<Communicator> host, Allocator& scratch, const NcclLibrary& library,
                   const NcclOptions& options = {});
  ~NcclCommunicator() override;

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  int node(int rank) const override { return host_->node(rank); }

  OperationPtr all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                               std::vector<int64_t> in_rows) override;
  OperationPtr all_gather(Tensor out, Tensor piece) override;
  OperationPtr all_gather_rows(Tensor out, std::vector<int64_t> rows, Tensor piece) override;
  OperationPtr reduce_scatter(Tensor out, Tensor in, Tensor onto = {}) override;
  OperationPtr reduce_scatter_rows(Tensor out, Tensor in, std::vector<int64_t> rows) override;
  OperationPtr all_reduce(Tensor x) override;
  OperationPtr broadcast(Tensor x, int root) override;
  OperationPtr barrier() override;

  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;
  Communicator& bulk() override;
  uint64_t id() const override { return host_->id(); }
  void set_name(std::string_view name) override;
  std::shared_ptr<FlightRecorder> flight() const override { return host_->flight(); }
  std::shared_ptr<const GroupLinks> emulated_links() const override { return host_->emulated_links(); }
  WireBytes bytes() const override;

 private:
  enum class Traffic { kCritical, kBulk };
  // `members`: the world's ranks in this group.
  NcclCommunicator(std::shared_ptr<Communicator> host, std::shared_ptr<NcclRuntime> runtime, std::vector<int> members,
                   int num_ranks, Traffic traffic);
  std::string who() const;
  // What moves such a tensor.
  Communicator& mover(const Tensor& x) const;

  std::shared_ptr<Communicator> host_;
  std::shared_ptr<NcclRuntime> runtime_;
  std::vector<int> members_;
  int num_ranks_;  // of the world
  Traffic traffic_;
  std::string name_;
  std::unique_ptr<NcclExchange> gpu_;
  std::unique_ptr<NcclCommunicator> bulk_;
};

}  // namespace shoal
