// parallel/simulated_communicator.cpp: groups on paper, and the refusal to send.
#include "parallel/simulated_communicator.h"

namespace shoal {

std::vector<int> simulated_nodes(int num_ranks, int ranks_per_node) {
  std::vector<int> nodes;
  for (int rank = 0; rank < num_ranks; ++rank) nodes.push_back(ranks_per_node > 0 ? rank / ranks_per_node : 0);
  return nodes;
}

SimulatedCommunicator::SimulatedCommunicator(int rank, std::vector<int> nodes, Allocator& scratch,
                                             std::shared_ptr<SimulatedWire> wire)
    : ExchangeCommunicator(&scratch, kMaxMessageBytes), rank_(rank), nodes_(std::move(nodes)), wire_(std::move(wire)) {
  SHOAL_CHECK(rank >= 0 && rank < size(), "rank {} of {}", rank, size());
}

std::unique_ptr<Communicator> SimulatedCommunicator::group(const std::vector<int>& ranks) {
  const int index = index_in_group(ranks);
  std::vector<int> nodes;
  for (const int rank : ranks) nodes.push_back(node(rank));
  return std::make_unique<SimulatedCommunicator>(index, std::move(nodes), *scratch(), wire_);
}

void SimulatedCommunicator::play(const std::array<int64_t, kNumLinkClasses>& bytes) {
  if (wire_ == nullptr) return;
  wire_->intra_node_s += wire_->links.intra_node.seconds(bytes[static_cast<size_t>(LinkClass::kIntraNode)]);
  wire_->inter_node_s +=
      wire_->links.inter_node.seconds(bytes[static_cast<size_t>(LinkClass::kInterNode)], wire_->ranks_on_node);
}

OperationPtr SimulatedCommunicator::start(std::shared_ptr<Exchange> exchange) {
  do {
    const Round& round = exchange->round();
    for (const std::vector<Message>* messages : {&round.sends, &round.receives}) {
      for (const Message& message : *messages) {
        if (message.bytes > 0)
          fail("rank {} of {} is on paper: real tensors cannot travel to or from rank {}; give it simulated ones",
               rank_, size(), message.peer);
      }
    }
    exchange->posted();
  } while (exchange->arrived());
  return exchange;
}

}  // namespace shoal
