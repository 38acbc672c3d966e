// parallel/simulated_wire.h: when the transfers of one simulated rank are through.
//
// All ranks do what this one does, at the same times: what it sends with a message, it receives with the like of it, a
// link is as free at the peer's end as at its own, and the other ranks of its node send as much over the node's links.
// Each message follows the rule of emulated links, but for gaps, which the traffic of ranks that all do the same leaves
// none of (link_clock.h fills them):
//   start = max(posted, sender's uplink free, receiver's downlink free)
//   the links are free again at start + bytes / bandwidth, and the message is there a latency later
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "core/base/simulated_clock.h"
#include "parallel/communicator.h"
#include "parallel/link_model.h"

namespace shoal {

// Messages that leave and arrive together, in the order in which they are posted: the i-th of both at a time.
struct SimulatedRound {
  struct Message {
    LinkClass link = LinkClass::kIntraNode;
    int64_t bytes = 0;
  };
  std::vector<Message> sends, receives;
};

// An operation's rounds, each posted when the one before has arrived.
struct SimulatedTransfer {
  std::vector<SimulatedRound> rounds;
  size_t played = 0;  // rounds whose times are known
  double posted_s = 0;
  double done_s = 0;            // of the last round played
  int64_t bytes = 0;            // sent
  std::vector<Tensor> buffers;  // held until it is through
};

// The links of a rank, and of its node; shared by its groups.
class SimulatedWire {
 public:
  // `ranks_on_node`: that share the node's links with this one, itself too. `clock` must outlive it.
  SimulatedWire(LinkModel links, int ranks_on_node, SimulatedClock& clock)
      : links_(links), ranks_on_node_(ranks_on_node), clock_(clock) {}

  // Posted now.
  std::shared_ptr<SimulatedTransfer> post(std::vector<SimulatedRound> rounds, std::vector<Tensor> buffers = {});
  bool done(const SimulatedTransfer& transfer);
  // Moves the clock to the transfer's end.
  void wait(const SimulatedTransfer& transfer);

  // How long the uplink that this rank uses was busy with the messages played so far: its own (kIntraNode), and those
  // of its node's other ranks too (kInterNode).
  double busy_s(LinkClass link) const { return link_of(link).busy_s; }

 private:
  struct Link {
    double up_free_s = 0, down_free_s = 0;
    double busy_s = 0;
  };
  const Link& link_of(LinkClass link) const { return clocks_[static_cast<size_t>(link)]; }
  double seconds_on_link(const SimulatedRound::Message& message) const;
  void play_next();
  void play_until_now();
  void release_buffers();
  void play_round(const std::shared_ptr<SimulatedTransfer>& transfer, double posted_s);

  LinkModel links_;
  int ranks_on_node_;
  SimulatedClock& clock_;
  std::array<Link, kNumLinkClasses> clocks_{};
  std::vector<std::shared_ptr<SimulatedTransfer>> under_way_;                // that hold buffers
  std::multimap<double, std::shared_ptr<SimulatedTransfer>> second_rounds_;  // by when they will be posted
};

}  // namespace shoal
