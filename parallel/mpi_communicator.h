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
  // `id`: equal on all of its ranks; `flight`: where calls are recorded, or null.
  MpiCommunicator(std::shared_ptr<const MpiGroup> group, int node, std::shared_ptr<MpiProgress> progress,
                  Allocator& scratch, int64_t max_message_bytes, uint64_t id, std::shared_ptr<FlightRecorder> flight);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(nodes_.size()); }
  int node(int rank) const override { return nodes_[static_cast<size_t>(rank)]; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;
  uint64_t id() const override { return id_; }
  std::shared_ptr<const GroupLinks> emulated_links() const override { return links_; }
  // Of the world, before anything is posted or grouped.
  void emulate(std::shared_ptr<LinkEmulator> emulator);

 protected:
  OperationPtr start(std::shared_ptr<Exchange> exchange) override;

 private:
  std::shared_ptr<const MpiGroup> group_;
  std::shared_ptr<MpiProgress> progress_;
  int rank_ = 0;
  std::vector<int> nodes_;  // of each rank
  uint64_t id_;
  int64_t num_groups_made_ = 0;
  std::shared_ptr<const GroupLinks> links_;  // null: as they are
};

}  // namespace shoal
