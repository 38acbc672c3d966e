// parallel/simulated_communicator.h: rank r of n on paper, without the others: for layouts, and for simulated tensors.
//
// Bytes are counted as if they travelled. What needs no other rank is done (a barrier too); a message of real tensors
// to or from another rank is refused when it is posted.
#pragma once

#include <memory>
#include <vector>

#include "parallel/exchange_communicator.h"
#include "parallel/link_model.h"

namespace shoal {

// The node of each of num_ranks ranks, ranks_per_node consecutive ones on each. 0: all on one.
std::vector<int> simulated_nodes(int num_ranks, int ranks_per_node);

// The clock of a rank's links, shared by its groups: the time they are busy, each operation alone.
struct SimulatedWire {
  LinkModel links;
  int ranks_on_node = 1;
  double intra_node_s = 0;
  double inter_node_s = 0;
};

class SimulatedCommunicator final : public ExchangeCommunicator {
 public:
  // `nodes`: of each rank. `scratch` must outlive it.
  // `wire`: advanced by simulated operations; may be null.
  SimulatedCommunicator(int rank, std::vector<int> nodes, Allocator& scratch,
                        std::shared_ptr<SimulatedWire> wire = nullptr);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(nodes_.size()); }
  int node(int rank) const override { return nodes_[static_cast<size_t>(rank)]; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;

 protected:
  OperationPtr start(std::shared_ptr<Exchange> exchange) override;
  void play(const std::array<int64_t, kNumLinkClasses>& bytes) override;

 private:
  int rank_;
  std::vector<int> nodes_;
  std::shared_ptr<SimulatedWire> wire_;
};

}  // namespace shoal
