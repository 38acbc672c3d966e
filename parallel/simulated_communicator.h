// parallel/simulated_communicator.h: rank r of n on paper, without the others: for layouts, and for simulated tensors.
//
// Bytes are counted as if they travelled, and with a wire (simulated_wire.h) they take the time they would. What needs
// no other rank is done (a barrier too); a message of real tensors to or from another rank is refused when it is
// posted.
#pragma once

#include <memory>
#include <vector>

#include "parallel/exchange_communicator.h"
#include "parallel/simulated_wire.h"

namespace shoal {

// The node of each of num_ranks ranks, ranks_per_node consecutive ones on each. 0: all on one.
std::vector<int> simulated_nodes(int num_ranks, int ranks_per_node);

class SimulatedCommunicator final : public ExchangeCommunicator {
 public:
  // `nodes`: of each rank. `scratch` must outlive it.
  // `wire`: of simulated tensors; null: they take no time.
  SimulatedCommunicator(int rank, std::vector<int> nodes, Allocator& scratch,
                        std::shared_ptr<SimulatedWire> wire = nullptr);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(nodes_.size()); }
  int node(int rank) const override { return nodes_[static_cast<size_t>(rank)]; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;

 protected:
  OperationPtr start(std::shared_ptr<Exchange> exchange) override;
  OperationPtr play(const std::vector<Round>& rounds, std::vector<Tensor> buffers) override;

 private:
  int rank_;
  std::vector<int> nodes_;
  std::shared_ptr<SimulatedWire> wire_;
};

}  // namespace shoal
