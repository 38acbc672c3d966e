// core/report/timeline_svg.h: timelines as a picture for a README: no scripts, one time scale for all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/train/timeline_file.h"

namespace shoal {

struct TimelinePicture {
  int64_t step = 0;                      // 0: the first in each file
  std::vector<int> ranks = {};           // empty: all
  std::vector<std::string> titles = {};  // of the files, in order; those that are left out are the files' names
  int64_t max_bytes = 300'000;
};

// An SVG document: the timelines above each other, each from its step's begin. A rank has a track of what its compute
// thread or queue did (ops by family; hatched: waiting for the wire) and one for each kind of wire that was in use.
// Where more than max_bytes would be needed, the grain is coarser than half a pixel.
std::string draw_timelines(const std::vector<Timeline>& timelines, const TimelinePicture& picture);

}  // namespace shoal
