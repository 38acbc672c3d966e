// parallel/mpi_communicator.cpp: who is in the group, and on which machine.
#include "parallel/mpi_communicator.h"

#include <algorithm>
#include <numeric>

#include "parallel/group_id.h"

namespace shoal {

MpiCommunicator::MpiCommunicator(std::shared_ptr<const MpiGroup> group, int node, std::shared_ptr<MpiProgress> progress,
                                 Allocator& scratch, int64_t max_message_bytes, uint64_t id,
                                 std::shared_ptr<FlightRecorder> flight)
    : ExchangeCommunicator(&scratch, max_message_bytes),
      group_(std::move(group)),
      progress_(std::move(progress)),
      id_(id) {
  int size = 0;
  check_mpi(MPI_Comm_rank(group_->comm(), &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(group_->comm(), &size), "MPI_Comm_size");
  nodes_.resize(static_cast<size_t>(size));
  check_mpi(MPI_Allgather(&node, 1, MPI_INT, nodes_.data(), 1, MPI_INT, group_->comm()), "MPI_Allgather");
  record_in(std::move(flight));
}

std::unique_ptr<Communicator> MpiCommunicator::group(const std::vector<int>& ranks) {
  const int index = index_in_group(ranks);
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(group_->comm(), *std::ranges::min_element(ranks), index, &part), "MPI_Comm_split");
  std::vector<int> members;  // of the world
  for (const int member : ranks) members.push_back(group_->members()[static_cast<size_t>(member)]);
  auto made =
      std::make_unique<MpiCommunicator>(std::make_shared<MpiGroup>(part, members), node(rank_), progress_, *scratch(),
                                        max_message_bytes(), group_id(id_, num_groups_made_++, ranks), flight());
  SHOAL_CHECK(made->size() == static_cast<int>(ranks.size()) && made->rank() == index,
              "rank {} of a group of {} was expected, {} of {} came: lists of ranks differ", index, ranks.size(),
              made->rank(), made->size());
  if (links_ != nullptr) {
    made->links_ = std::make_shared<GroupLinks>(links_->emulator(), made->id_, std::move(members), index);
  }
  return made;
}

void MpiCommunicator::emulate(std::shared_ptr<LinkEmulator> emulator) {
  std::vector<int> members(nodes_.size());
  std::iota(members.begin(), members.end(), 0);
  links_ = std::make_shared<GroupLinks>(std::move(emulator), id_, std::move(members), rank_);
}

OperationPtr MpiCommunicator::start(std::shared_ptr<Exchange> exchange) {
  progress_->post(exchange, group_, links_);
  return exchange;
}

}  // namespace shoal
