// parallel/mpi_communicator.h: a group of MPI ranks; messages travel through the process's communication thread.
#pragma once

#include <memory>
#include <vector>

#include "parallel/exchange_communicator.h"
#include "parallel/mpi_progress.h"

namespace shoal {

class MpiCommunicator final : public ExchangeCommunicator {
 public:
  // Collective over `group`. `node` is this rank's machine, by any number that is equal for ranks on one machine.
  MpiCommunicator(std::shared_ptr<const MpiGroup> group, int node, std::shared_ptr<MpiProgress> progress,
                  Allocator& scratch, int64_t max_message_bytes);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(nodes_.size()); }
  int node(int rank) const override { return nodes_[static_cast<size_t>(rank)]; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;

 protected:
  OperationPtr start(std::shared_ptr<Exchange> exchange) override;

 private:
  std::shared_ptr<const MpiGroup> group_;
  std::shared_ptr<MpiProgress> progress_;
  int rank_ = 0;
  std::vector<int> nodes_;  // of each rank
};

}  // namespace shoal
