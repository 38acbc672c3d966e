// parallel/link_model.h: links as a configuration describes them (parallel.emulate).
#pragma once

#include <optional>

namespace shoal {

struct LinkSpeed {
  double bytes_per_s = 0;  // one way; 0: endless
  double latency_s = 0;
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
  int slow_peer = -1;  // if not -1: only the link between slow_rank and this one (no knob: for tests)

  // Links that are not described are endless.
  LinkModel model() const { return {intra_node.value_or(LinkSpeed{}), inter_node.value_or(LinkSpeed{})}; }
};

}  // namespace shoal
