// core/train/slow_links.h: which links are slower than others of their kind, when it is worth looking, and in what
// words it is told.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/train/link_probe.h"

namespace shoal {

struct SlowLink {
  LinkClass link = LinkClass::kIntraNode;
  int from = -1, to = -1;  // ranks of the world; -1: all others
  double seconds = 0;      // a message's
  double usual_s = 0;      // on other links of the class
};

// A rank all of whose links one way are slow is named by that; else a link that is slow among those of both its ends.
// Links of a class are compared by their medians, so that a network of two tiers accuses nobody.
std::vector<SlowLink> find_slow_links(const std::vector<LinkTime>& links);

// Decides, from numbers that are the same on every rank, when links are probed: where ranks wait for the wire, and so
// rarely that it takes less than a thousandth of the time.
class LinkWatch {
 public:
  struct Step {
    int64_t number = 0;
    double step_s = 0;                             // the slowest rank's
    double waits_s = 0;                            // for the wire, of the rank that waits most
    std::array<int64_t, kNumLinkClasses> bytes{};  // that a rank sends, on average
  };
  // After every step. Bytes of the messages to probe with; nothing: not now.
  std::optional<std::array<int64_t, kNumLinkClasses>> add(const Step& step);
  // What a probe after that step found. What there is to say: of links that are slow by the best times of several
  // probes, some steps apart; usually nothing.
  std::string found(int64_t step, const LinkTimes& times);

 private:
  Step mean_step() const;  // of the window

  std::deque<Step> window_;
  double since_probes_s_ = 0, probes_s_ = 0;  // the last ones, those that confirm counted with them
  int64_t next_step_ = 0;
  int num_probes_ = 0;  // of those that confirm each other
  LinkTimes best_;      // of them
};

}  // namespace shoal
