// core/train/timeline_file.h: timeline.json read back, and where each step's time went.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/trace.h"

namespace shoal {

struct TimelineSlice {
  double begin_ms = 0, end_ms = 0;
  int kind = 0;       // kCompute: WorkKind; kWait, kWire: WireKind
  int64_t step = 0;   // kStep
  int64_t bytes = 0;  // kWire
};

struct TimelineRank {
  int rank = 0;
  std::string name;                                               // "rank 3 (host)"
  std::array<std::vector<TimelineSlice>, kNumTraceTracks> track;  // each by begin
  const std::vector<TimelineSlice>& of(TraceTrack which) const { return track[static_cast<size_t>(which)]; }
};

struct Timeline {
  std::string file;
  std::string config, schedule;
  std::vector<TimelineRank> ranks;
};

// Throws a sentence that names the file unless it is one that timeline_json.h wrote. What it does not know it passes
// over.
Timeline read_timeline(const std::filesystem::path& file);

// Of one step on one rank. compute + exposed + data + idle = step.
struct StepTimes {
  int64_t step = 0;
  int rank = 0;
  double step_ms = 0;
  double compute_ms = 0;                           // in ops
  std::array<double, kNumWireKinds> exposed_ms{};  // waiting for the wire, with no op under way
  std::array<double, kNumWireKinds> wire_ms{};     // something of the kind under way, hidden or not
  double data_ms = 0;                              // for data, likewise
  double idle_ms = 0;                              // the rest
  double exposed_total_ms() const;
};
// By step, then by rank.
std::vector<StepTimes> step_times(const Timeline& timeline);

// The mean over ranks; rank -1.
StepTimes mean_of(const std::vector<StepTimes>& of_ranks);

// A title, then a line for each step and rank (only these, where any are named; step 0: all), and one for the mean of
// a step's ranks.
std::string timeline_table(const Timeline& timeline, int64_t step, const std::vector<int>& ranks);
// The same as a JSON array of objects.
std::string timeline_table_json(const std::vector<Timeline>& timelines, int64_t step, const std::vector<int>& ranks);

}  // namespace shoal
