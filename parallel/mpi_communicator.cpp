// parallel/mpi_communicator.cpp: who is in the group, and on which machine.
#include "parallel/mpi_communicator.h"

namespace shoal {

MpiCommunicator::MpiCommunicator(std::shared_ptr<const MpiGroup> group, int node, std::shared_ptr<MpiProgress> progress,
                                 Allocator& scratch, int64_t max_message_bytes)
    : ExchangeCommunicator(&scratch, max_message_bytes), group_(std::move(group)), progress_(std::move(progress)) {
  int size = 0;
  check_mpi(MPI_Comm_rank(group_->comm(), &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(group_->comm(), &size), "MPI_Comm_size");
  nodes_.resize(static_cast<size_t>(size));
  check_mpi(MPI_Allgather(&node, 1, MPI_INT, nodes_.data(), 1, MPI_INT, group_->comm()), "MPI_Allgather");
}

std::unique_ptr<Communicator> MpiCommunicator::split(int color, int key) {
  SHOAL_CHECK(color >= 0, "color {}", color);
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(group_->comm(), color, key, &part), "MPI_Comm_split");
  return std::make_unique<MpiCommunicator>(std::make_shared<MpiGroup>(part), nodes_[static_cast<size_t>(rank_)],
                                           progress_, *scratch(), max_message_bytes());
}

LinkClass MpiCommunicator::link(int peer) const {
  if (peer == rank_) return LinkClass::kSelf;
  const bool same_node = nodes_[static_cast<size_t>(peer)] == nodes_[static_cast<size_t>(rank_)];
  return same_node ? LinkClass::kIntraNode : LinkClass::kInterNode;
}

void MpiCommunicator::start(std::shared_ptr<Exchange> exchange) { progress_->post(std::move(exchange), group_); }

}  // namespace shoal
