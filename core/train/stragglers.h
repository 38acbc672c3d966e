// core/train/stragglers.h: which ranks are slower than the others, step after step.
//
// A rank's own time in a step is what it did not spend waiting for others: computing, and whatever else keeps it. The
// step takes as long as the slowest rank's, and the others' waiting hides in "exposed" communication, so a rank on a
// slow or busy machine shows nowhere else. A slow link makes all that meet over it wait alike: slow_links.h finds it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

namespace shoal {

class StragglerWatch {
 public:
  // Each rank's own seconds in a step that took `step_s`. What there is to say about ranks that were slow in nearly all
  // of the last steps, by enough to matter; usually nothing. A rank is named again only after many steps.
  std::string add(int64_t step, const std::vector<double>& own_s, double step_s);

 private:
  std::deque<std::vector<double>> window_;
  std::deque<double> steps_s_;
  std::map<int, int64_t> named_at_;  // step
};

}  // namespace shoal
