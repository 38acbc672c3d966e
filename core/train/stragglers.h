// core/train/stragglers.h: which ranks are slower than the others, step after step.
//
// A rank's own time in a step is what it did not spend waiting for others: computing, and whatever else keeps it. The
// step takes as long as the slowest rank's, and the others' waiting hides in "exposed" communication, so a rank on a
// slow or busy machine shows nowhere else.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

namespace shoal {

class StragglerWatch {
 public:
  // Each rank's own seconds in a step. What there is to say about ranks that were slow in nearly all of the last
  // steps; usually nothing. A rank is named again only after many steps.
  std::string add(int64_t step, const std::vector<double>& own_s);

 private:
  std::deque<std::vector<double>> window_;
  std::map<int, int64_t> named_at_;  // step
};

}  // namespace shoal
