// tests/train/schedule_test.cpp: every schedule runs every forward and backward once, in an order that can be run.
#include "core/train/schedule.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

using Catch::Matchers::Contains;

namespace shoal {

namespace {

constexpr ActionKind kForward = ActionKind::kForward, kBackward = ActionKind::kBackward;
using Overlap = ParallelConfig::Overlap;

}  // namespace

TEST_CASE("the schedules, written out", "[schedule]") {
  REQUIRE(one_lane_schedule(2) == Schedule{{{kForward, 0}}, {{kBackward, 0}}, {{kForward, 1}}, {{kBackward, 1}}});
  REQUIRE(
      pair_forward_schedule(3) ==
      Schedule{{{kForward, 0}, {kForward, 1}}, {{kBackward, 0}, {kBackward, 1}}, {{kForward, 2}}, {{kBackward, 2}}});
  REQUIRE(
      pair_forward_backward_schedule(3) ==
      Schedule{{{kForward, 0}}, {{kBackward, 0}, {kForward, 1}}, {{kBackward, 1}, {kForward, 2}}, {{kBackward, 2}}});
}

TEST_CASE("every schedule runs everything once, forwards first, on lanes of their own", "[schedule]") {
  for (const Overlap::Schedule overlap : {Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD}) {
    for (int count = 0; count < 9; ++count) {
      INFO(Overlap::Schedule_Name(overlap) << ", " << count << " microbatches");
      std::set<int> forwards, backwards;
      int in_flight = 0, most_in_flight = 0, last_backward = -1;
      for (const std::vector<Action>& together : make_schedule(overlap, count)) {
        REQUIRE(!together.empty());
        std::set<int> lanes;
        for (const Action& action : together) {
          REQUIRE(lanes.insert(lane_of(action)).second);
          if (action.kind == kForward) {
            REQUIRE(forwards.insert(action.microbatch).second);
            ++in_flight;
            continue;
          }
          REQUIRE(forwards.contains(action.microbatch));
          REQUIRE(backwards.insert(action.microbatch).second);
          REQUIRE(action.microbatch == ++last_backward);  // gradients add up in this order
        }
        most_in_flight = std::max(most_in_flight, in_flight);
        in_flight -= static_cast<int>(std::ranges::count(together, kBackward, &Action::kind));
      }
      REQUIRE(static_cast<int>(forwards.size()) == count);
      REQUIRE(static_cast<int>(backwards.size()) == count);
      REQUIRE(most_in_flight == std::min(count, overlap == Overlap::OFF ? 1 : 2));
    }
  }
  REQUIRE_THROWS_WITH(make_schedule(Overlap::AUTO, 2), Contains("no schedule"));
}

}  // namespace shoal
