// parallel/link_model.h: how long a transfer takes on described links.
//
// Per operation of one rank: done = posted + latency + bytes / bandwidth, in-node links per rank, a node's uplink
// shared by its ranks. On paper all ranks do the same at the same time, so a rank sees its share of the uplink.
#pragma once

#include <cstdint>
#include <optional>

namespace shoal {

struct LinkSpeed {
  double bytes_per_s = 0;  // one way; 0: endless
  double latency_s = 0;

  // `bytes` that share the link with as many of `sharers - 1` others.
  double seconds(int64_t bytes, int sharers = 1) const {
    if (bytes == 0) return 0;
    return latency_s + (bytes_per_s > 0 ? static_cast<double>(bytes) * sharers / bytes_per_s : 0);
  }
};

struct LinkModel {
  LinkSpeed intra_node;
  LinkSpeed inter_node;
};

// The links of an imagined cluster (parallel.emulate).
struct EmulatedLinks {
  std::optional<LinkSpeed> intra_node = {}, inter_node = {};  // none: not described
  double jitter = 0;                                          // a transfer takes 1 to 1 + jitter times as long
  int slow_rank = -1;                                         // of the world; -1: none
  double slow_factor = 1;

  // Links that are not described are endless.
  LinkModel model() const { return {intra_node.value_or(LinkSpeed{}), inter_node.value_or(LinkSpeed{})}; }
};

}  // namespace shoal
