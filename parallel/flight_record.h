// parallel/flight_record.h: what a rank tells about itself while it works, as others read it: plain values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "parallel/collective_call.h"

namespace shoal {

// What a rank is at. How long it may take without progress differs (core/train/watchdog_verdict.h).
enum class Phase : uint8_t { kStart, kStep, kData, kEvaluate, kSample, kSave, kLoad, kEnding, kEnded };
constexpr int kNumPhases = 9;
std::string_view name_of(Phase phase);  // "starting", "in a step", "waiting for data", …

constexpr int kMaxFlightGroups = 32;
constexpr int kMaxPendingCalls = 4;
constexpr int kFlightCalls = 64;

// A fixed-size text that is cut where it is too long; always ends with 0.
template <size_t kSize>
struct FixedText {
  std::array<char, kSize> bytes{};
  void set(std::string_view text) {
    bytes = {};
    text.copy(bytes.data(), kSize - 1);
  }
  std::string_view view() const { return bytes.data(); }
};

// One group that the rank is in. `begun` counts the calls that this rank has posted, `ended` those that were through;
// on a device's queue (`on_device`) nobody looks, and a call counts as ended when it is queued.
struct GroupProgress {
  uint64_t id = 0;  // 0: none
  int64_t begun = 0;
  int64_t ended = 0;
  uint64_t history = 0;  // of the calls begun
  int32_t size = 0;
  int32_t on_device = 0;
  FixedText<24> name;
};

// A call that the rank has posted and that is not through.
struct PendingCall {
  uint64_t group = 0;
  int64_t number = 0;
  int64_t count = 0;
  int32_t root = -1;
  Verb verb = Verb::kNone;  // kNone: none
  DType dtype = DType::kU8;
  uint64_t history = 0;
};

// All of it but the ring of calls; travels between machines of one job as it is.
struct RankState {
  int32_t rank = 0;  // of the world
  int32_t node = 0;
  int64_t pid = 0;
  uint64_t process_start = 0;  // of /proc/PID/stat: tells a process from a later one with its number
  FixedText<64> host;
  uint64_t beats = 0;     // of its own monitor thread
  uint64_t progress = 0;  // changes whenever the rank has done something
  Phase phase = Phase::kStart;
  int64_t step = 0;
  int64_t steps_done = 0;  // in this process
  double longest_step_s = 0;
  std::array<GroupProgress, kMaxFlightGroups> groups{};
  std::array<PendingCall, kMaxPendingCalls> pending{};  // the oldest
  PendingCall last;                                     // that the rank has posted, be it through or not
};
static_assert(std::is_trivially_copyable_v<RankState>);

// One line of a flight record.
struct FlightCall {
  uint64_t sequence = 0;  // of the rank's calls in all groups, from 1
  uint64_t group = 0;
  std::string group_name;
  CollectiveCall call;
  int64_t tag = 0;       // of its first round in the group
  int64_t last_tag = 0;  // of its last
  int64_t step = 0;
  int64_t begun_ns = 0;
  int64_t ended_ns = 0;  // 0: it is not through
  bool on_device = false;
};

// One JSON object, no newline: sequence, step, group, verb, dtype, count, …, seconds before `now_ns`.
std::string to_json(const FlightCall& call, int64_t now_ns);
// The line in front of them: who this is, what it is at.
std::string to_json(const RankState& state);

}  // namespace shoal
