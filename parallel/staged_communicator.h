// parallel/staged_communicator.h: collectives of tensors on a GPU by way of host memory: another communicator moves
// them from there.
//
// What works wherever MPI does, ranks that share a GPU included; NCCL does not take those. A verb waits for the compute
// queue, copies what this rank gives to the host and posts the host's verb; whoever waits copies what arrived back, in
// queue order. So nothing is hidden behind computation. Tensors on the host go straight through.
#pragma once

#include "parallel/communicator.h"

namespace shoal {

class StagedCommunicator final : public Communicator {
 public:
  // `host`: memory for the copies; must outlive this.
  StagedCommunicator(std::shared_ptr<Communicator> inner, Allocator& host);

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int node(int rank) const override { return inner_->node(rank); }

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
  uint64_t id() const override { return inner_->id(); }
  void set_name(std::string_view name) override { inner_->set_name(name); }
  std::shared_ptr<FlightRecorder> flight() const override { return inner_->flight(); }
  std::shared_ptr<const GroupLinks> emulated_links() const override { return inner_->emulated_links(); }
  WireBytes bytes() const override { return inner_->bytes(); }

 private:
  // A host tensor like `x`; with x's elements.
  Tensor empty_like(const Tensor& x) const;
  Tensor on_host(const Tensor& x) const;

  std::shared_ptr<Communicator> inner_;
  Allocator& host_;
};

}  // namespace shoal
