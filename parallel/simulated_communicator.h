// parallel/simulated_communicator.h: rank r of n on paper, without the others: for layouts, and for simulated tensors.
//
// Bytes are counted as if they travelled. What needs no other rank is done (a barrier too); a message of real tensors
// to or from another rank is refused when it is posted.
#pragma once

#include <vector>

#include "parallel/exchange_communicator.h"

namespace shoal {

class SimulatedCommunicator final : public ExchangeCommunicator {
 public:
  // `nodes`: of each rank. `scratch` must outlive it.
  SimulatedCommunicator(int rank, std::vector<int> nodes, Allocator& scratch);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(nodes_.size()); }
  int node(int rank) const override { return nodes_[static_cast<size_t>(rank)]; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;

 protected:
  void start(std::shared_ptr<Exchange> exchange) override;

 private:
  int rank_;
  std::vector<int> nodes_;
};

}  // namespace shoal
