// parallel/simulated_communicator.cpp: groups on paper, and the refusal to send.
#include "parallel/simulated_communicator.h"

namespace shoal {

SimulatedCommunicator::SimulatedCommunicator(int rank, std::vector<int> nodes, Allocator& scratch)
    : ExchangeCommunicator(&scratch, kMaxMessageBytes), rank_(rank), nodes_(std::move(nodes)) {
  SHOAL_CHECK(rank >= 0 && rank < size(), "rank {} of {}", rank, size());
}

std::unique_ptr<Communicator> SimulatedCommunicator::group(const std::vector<int>& ranks) {
  const int index = index_in_group(ranks);
  std::vector<int> nodes;
  for (const int rank : ranks) nodes.push_back(node(rank));
  return std::make_unique<SimulatedCommunicator>(index, std::move(nodes), *scratch());
}

void SimulatedCommunicator::start(std::shared_ptr<Exchange> exchange) {
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
}

}  // namespace shoal
