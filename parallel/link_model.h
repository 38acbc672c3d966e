// parallel/link_model.h: how long a transfer takes on described links.
//
// Per operation of one rank: done = posted + latency + bytes / bandwidth, in-node links per rank, a node's uplink
// shared by its ranks. On paper all ranks do the same at the same time, so a rank sees its share of the uplink.
#pragma once

#include <cstdint>

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

}  // namespace shoal
