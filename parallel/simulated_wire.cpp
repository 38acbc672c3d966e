// parallel/simulated_wire.cpp: messages in the order in which they are posted.
#include "parallel/simulated_wire.h"

#include <algorithm>

namespace shoal {

namespace {

const LinkSpeed& speed(const LinkModel& links, LinkClass link) {
  return link == LinkClass::kInterNode ? links.inter_node : links.intra_node;
}

}  // namespace

double SimulatedWire::seconds_on_link(const SimulatedRound::Message& message) const {
  const double bytes_per_s = speed(links_, message.link).bytes_per_s;
  const int sharers = message.link == LinkClass::kInterNode ? ranks_on_node_ : 1;
  return bytes_per_s > 0 ? static_cast<double>(message.bytes) * sharers / bytes_per_s : 0;
}

void SimulatedWire::play_round(const std::shared_ptr<SimulatedTransfer>& transfer, double posted_s) {
  const SimulatedRound& round = transfer->rounds[transfer->played++];
  double arrived_s = posted_s;
  for (size_t i = 0; i < std::max(round.sends.size(), round.receives.size()); ++i) {
    // Both start by what was free before either.
    const std::array<Link, kNumLinkClasses> before = clocks_;
    const auto start_s = [&](LinkClass link) {
      const Link& free = before[static_cast<size_t>(link)];
      return std::max({posted_s, free.up_free_s, free.down_free_s});
    };
    if (i < round.sends.size()) {
      const SimulatedRound::Message& send = round.sends[i];
      Link& link = clocks_[static_cast<size_t>(send.link)];
      link.up_free_s = start_s(send.link) + seconds_on_link(send);
      link.busy_s += seconds_on_link(send);
    }
    if (i < round.receives.size()) {
      const SimulatedRound::Message& receive = round.receives[i];
      Link& link = clocks_[static_cast<size_t>(receive.link)];
      link.down_free_s = start_s(receive.link) + seconds_on_link(receive);
      arrived_s = std::max(arrived_s, link.down_free_s + speed(links_, receive.link).latency_s);
    }
  }
  transfer->done_s = arrived_s;
  if (transfer->played < transfer->rounds.size()) second_rounds_.emplace(arrived_s, transfer);
}

void SimulatedWire::play_next() {
  const auto next = second_rounds_.begin();
  const auto [posted_s, transfer] = *next;
  second_rounds_.erase(next);
  play_round(transfer, posted_s);
}

// Rounds that were posted by themselves until now went before what is posted next.
void SimulatedWire::play_until_now() {
  while (!second_rounds_.empty() && second_rounds_.begin()->first <= clock_.now_s()) play_next();
}

// What carries messages lets go of their memory when they are through, whether or not somebody asks.
void SimulatedWire::release_buffers() {
  std::erase_if(under_way_, [&](const std::shared_ptr<SimulatedTransfer>& transfer) {
    if (transfer->played < transfer->rounds.size() || transfer->done_s > clock_.now_s()) return false;
    transfer->buffers.clear();
    return true;
  });
}

std::shared_ptr<SimulatedTransfer> SimulatedWire::post(std::vector<SimulatedRound> rounds,
                                                       std::vector<Tensor> buffers) {
  SHOAL_CHECK(!rounds.empty());
  play_until_now();
  release_buffers();
  const auto transfer = std::make_shared<SimulatedTransfer>();
  transfer->rounds = std::move(rounds);
  transfer->posted_s = clock_.now_s();
  transfer->buffers = std::move(buffers);
  for (const SimulatedRound& round : transfer->rounds) {
    for (const SimulatedRound::Message& send : round.sends) transfer->bytes += send.bytes;
  }
  play_round(transfer, transfer->posted_s);
  under_way_.push_back(transfer);
  return transfer;
}

bool SimulatedWire::done(const SimulatedTransfer& transfer) {
  play_until_now();
  return transfer.played == transfer.rounds.size() && transfer.done_s <= clock_.now_s();
}

// Nothing else is posted meanwhile: the rank waits.
void SimulatedWire::wait(const SimulatedTransfer& transfer) {
  while (transfer.played < transfer.rounds.size()) play_next();
  clock_.wait_until(transfer.done_s);
  release_buffers();
}

}  // namespace shoal
