// core/train/link_probe.h: how long a message takes on each link of a job, measured while nothing else is under way.
//
// A rank that computes slowly makes others wait, and so does a slow link: waiting does not tell which. Here nobody
// computes, the two ends of a link meet first, and the sender's clock runs from a long message to the answer: whatever
// else happens makes that longer, never shorter, so the best of a few times is the link's. A rank is at one end of one
// link at a time, and of a node's ranks one at a time uses the links to other nodes, which they may share.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/base/stream.h"
#include "parallel/communicator.h"

namespace shoal {

struct LinkTime {
  int from = 0, to = 0;  // ranks of the world
  LinkClass link = LinkClass::kIntraNode;
  double seconds = 0;  // from a message to its answer, the best of a few
};

struct LinkTimes {
  std::array<int64_t, kNumLinkClasses> message_bytes{};
  std::vector<LinkTime> links;
  double took_s = 0;  // all of it, on the slowest rank
};

// Who sends at the same time: rank r to to[r]; -1: to nobody. No rank is in two pairs.
struct LinkTurn {
  LinkClass link = LinkClass::kIntraNode;
  std::vector<int> to;
};

// Every rank to every other of its node, and to the like-placed rank of every other node; in large jobs to 16 of them.
// `nodes`: of each rank, those of a node next to each other.
std::vector<LinkTurn> link_turns(const std::vector<int>& nodes);

// Collective: messages of so many bytes over the links of each class; 0: not over these. The same on every rank.
LinkTimes probe_links(Communicator& world, Stream& stream, const std::array<int64_t, kNumLinkClasses>& message_bytes);

}  // namespace shoal
