// parallel/simulated_communicator.cpp: groups on paper, and the refusal to send.
#include "parallel/simulated_communicator.h"

#include <cmath>

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

namespace {

// Complete when the clock says so.
class SimulatedOperation : public Operation {
 public:
  SimulatedOperation(std::shared_ptr<SimulatedWire> wire, std::vector<SimulatedRound> rounds, int64_t tag,
                     std::vector<Tensor> buffers)
      : wire_(std::move(wire)), transfer_(wire_->post(std::move(rounds), std::move(buffers))), tag_(tag) {}

  bool done() override { return wire_->done(*transfer_); }
  void wait() override { wire_->wait(*transfer_); }
  // On the simulated clock.
  WireSpan span() const override {
    const auto ns = [](double seconds) { return std::llround(seconds * 1e9); };
    return {.posted_ns = ns(transfer_->posted_s),
            .completed_ns = ns(transfer_->done_s),
            .bytes = transfer_->bytes,
            .tag = tag_};
  }

 private:
  std::shared_ptr<SimulatedWire> wire_;
  std::shared_ptr<SimulatedTransfer> transfer_;
  int64_t tag_;
};

}  // namespace

OperationPtr SimulatedCommunicator::play(const std::vector<Round>& rounds, std::vector<Tensor> buffers) {
  if (wire_ == nullptr) return ExchangeCommunicator::play(rounds, std::move(buffers));
  const auto on_links = [&](const std::vector<Message>& messages) {
    std::vector<SimulatedRound::Message> on_links;
    for (const Message& message : messages) on_links.push_back({link(message.peer), message.bytes});
    return on_links;
  };
  std::vector<SimulatedRound> played;
  for (const Round& round : rounds) played.push_back({on_links(round.sends), on_links(round.receives)});
  return std::make_shared<SimulatedOperation>(wire_, std::move(played), rounds.front().tag, std::move(buffers));
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
