// tests/train/watchdog_verdict_test.cpp: made-up records and times, and who is at fault.
#include "core/train/watchdog_verdict.h"

#include <catch2/catch.hpp>

using Catch::Matchers::Contains;

namespace shoal {

namespace {

constexpr uint64_t kWorld = 1, kPair = 2;

// Four ranks in a step, which have made the same calls and move; a group of all, one of each pair.
WatchView healthy(int num_ranks = 4) {
  WatchView view{.num_ranks = num_ranks, .node = 0, .ranks = {}};
  for (int rank = 0; rank < num_ranks; ++rank) {
    Sighting seen;
    RankState& state = seen.state;
    state.rank = rank;
    state.pid = 100 + rank;
    state.host.set("node-a");
    state.phase = Phase::kStep;
    state.step = 30;
    state.steps_done = 29;
    state.longest_step_s = 0.5;
    state.groups[0] = {
        .id = kWorld, .begun = 10, .ended = 10, .history = 0, .size = num_ranks, .on_device = 0, .name = {}};
    state.groups[0].name.set("world");
    state.groups[1] = {.id = kPair + static_cast<uint64_t>(rank / 2),
                       .begun = 7,
                       .ended = 7,
                       .history = 0,
                       .size = 2,
                       .on_device = 0,
                       .name = {}};
    state.groups[1].name.set("expert");
    seen.silent_s = 0.2;
    seen.idle_s = 0.1;
    view.ranks.push_back(seen);
  }
  return view;
}

RankState& state_of(WatchView& view, int rank) { return view.ranks[static_cast<size_t>(rank)].state; }

// The rank has posted its next call of that group and waits.
void wait_in(WatchView& view, int rank, size_t group, uint64_t history = 5) {
  RankState& state = state_of(view, rank);
  const int64_t number = ++state.groups[group].begun;
  state.pending[0] = {.group = state.groups[group].id,
                      .number = number,
                      .count = 64,
                      .root = -1,
                      .verb = Verb::kAllReduce,
                      .dtype = DType::kF32,
                      .history = history};
}

void all_idle(WatchView& view, double seconds) {
  for (Sighting& seen : view.ranks) seen.idle_s = seconds;
}

Verdict judged(const WatchView& view) { return judge(view, {}); }

}  // namespace

TEST_CASE("ranks that move are left alone, whoever waits for whom") {
  WatchView view = healthy();
  CHECK(judged(view).finding == Finding::kNone);
  for (const int rank : {0, 1, 3}) wait_in(view, rank, 0);
  CHECK(judged(view).finding == Finding::kNone);
  all_idle(view, 9.9);
  CHECK(judged(view).finding == Finding::kNone);
}

TEST_CASE("a rank that is stopped is named, with what it was at and who waits for it") {
  WatchView view = healthy();
  for (const int rank : {0, 1, 3}) wait_in(view, rank, 0);
  view.ranks[2].silent_s = 5.2;
  view.ranks[2].process = ProcessState::kStopped;
  const Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kStopped && verdict.ranks == std::vector{2}));
  CHECK_THAT(verdict.text, Contains("rank 2 of 4 (host node-a, process 102) is stopped, by a signal or a debugger, for "
                                    "5.2 s; it was in step 30, in no collective; ranks 0, 1, 3 wait for it in "
                                    "all_reduce of 64 f32, call 11 of group 'world'"));
  view.ranks[2].silent_s = 4.9;
  all_idle(view, 11);  // nothing is known of what it does
  CHECK(judged(view).finding == Finding::kNone);
  view.ranks[2].silent_s = 5.2;
  view.ranks[2].process = ProcessState::kAlive;
  CHECK(judged(view).finding == Finding::kSilent);
}

TEST_CASE("a process that is gone is named at once, one that has ended is not missed") {
  WatchView view = healthy();
  view.ranks[1].silent_s = 1.3;
  view.ranks[1].process = ProcessState::kGone;
  Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kGone && verdict.ranks == std::vector{1}));
  state_of(view, 1).phase = Phase::kEnded;
  view.ranks[1].silent_s = view.ranks[1].idle_s = 500;
  CHECK(judged(view).finding == Finding::kNone);
  wait_in(view, 0, 0);
  view.ranks[0].idle_s = 11;
  verdict = judged(view);
  CHECK((verdict.finding == Finding::kEnded && verdict.ranks == std::vector{1}));
  CHECK_THAT(verdict.text, Contains("has come to its end") && Contains("rank 0 waits for it in all_reduce of 64 f32"));
}

TEST_CASE("a rank that waits at its end for the others is not at fault, unless they wait for it") {
  WatchView view = healthy();
  for (const int rank : {0, 1, 2, 3}) {
    if (rank != 3) state_of(view, rank).phase = Phase::kEnding;
    if (rank != 3) wait_in(view, rank, 0);
  }
  all_idle(view, 9);
  CHECK(judged(view).finding == Finding::kNone);
  state_of(view, 3).phase = Phase::kSave;
  all_idle(view, 900);
  CHECK(judged(view).finding == Finding::kNone);
  wait_in(view, 3, 1);
  state_of(view, 3).phase = Phase::kStep;
  const Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kEnded && verdict.ranks == std::vector{2}));
  CHECK_THAT(verdict.text, Contains("rank 3 waits for it in all_reduce of 64 f32, call 8 of group 'expert'"));
}

TEST_CASE("of a node that is not heard of, all ranks are named, a little later") {
  WatchView view = healthy();
  for (const int rank : {2, 3}) {
    state_of(view, rank).node = 1;
    view.ranks[static_cast<size_t>(rank)].silent_s = 6;
  }
  CHECK(judged(view).finding == Finding::kNone);
  for (const int rank : {2, 3}) view.ranks[static_cast<size_t>(rank)].silent_s = 8;
  const Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kSilent && verdict.ranks == std::vector{2, 3}));
  CHECK_THAT(verdict.text, Contains("its host or the network is gone") && Contains("with ranks 2, 3"));
}

TEST_CASE("a rank that is stuck in its computation is named, not those who wait, at the end of every chain") {
  WatchView view = healthy();
  all_idle(view, 10.2);
  // 3 computes; 2 waits for it in their pair, 0 and 1 for both in the world's next call.
  wait_in(view, 2, 1);
  for (const int rank : {0, 1}) wait_in(view, rank, 0);
  const Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kStuck && verdict.ranks == std::vector{3}));
  CHECK_THAT(verdict.text, Contains("rank 3 of 4") && Contains("in step 30, in no collective") &&
                               Contains("10.2 s (allowed: 10 s, run.watchdog.step_seconds)") &&
                               Contains("ranks 0, 1, 2 wait for it"));
}

TEST_CASE("a rank in no collective is told with the last that it was in") {
  WatchView view = healthy();
  for (const int rank : {0, 1, 2}) wait_in(view, rank, 0);
  all_idle(view, 10.2);
  state_of(view, 3).last = {.group = kPair + 1,
                            .number = 7,
                            .count = 9,
                            .root = 1,
                            .verb = Verb::kBroadcast,
                            .dtype = DType::kBF16,
                            .history = 0};
  CHECK(judged(view).text ==
        "rank 3 of 4 (host node-a, process 103) is stuck: in step 30, in no collective since broadcast of 9 bf16 from "
        "rank 1, call 7 of group 'expert', without progress for 10.2 s (allowed: 10 s, run.watchdog.step_seconds); "
        "ranks 0, 1, 2 wait for it in all_reduce of 64 f32, call 11 of group 'world'");
}

TEST_CASE("the limit grows with the longest step of any rank") {
  WatchView view = healthy();
  for (const int rank : {0, 1, 2}) wait_in(view, rank, 0);
  all_idle(view, 40);
  state_of(view, 1).longest_step_s = 9;
  CHECK(judged(view).finding == Finding::kNone);
  all_idle(view, 46);
  CHECK(judged(view).ranks == std::vector{3});
  CHECK_THAT(judged(view).text, Contains("(allowed: 45 s, 5 times the longest step)"));
}

TEST_CASE("a rank that is at something that may take long is waited for by all others") {
  for (const Phase phase : {Phase::kSave, Phase::kLoad, Phase::kEvaluate, Phase::kSample}) {
    WatchView view = healthy();
    for (const int rank : {1, 2, 3}) wait_in(view, rank, 0);
    state_of(view, 0).phase = phase;
    all_idle(view, 1700);
    CHECK(judged(view).finding == Finding::kNone);
    all_idle(view, 1801);
    const Verdict verdict = judged(view);
    CHECK((verdict.finding == Finding::kStuck && verdict.ranks == std::vector{0}));
    const bool files = phase == Phase::kSave || phase == Phase::kLoad;
    CHECK_THAT(verdict.text, Contains(std::string(name_of(phase)) + " after step 30") && Contains("allowed: 1800 s") &&
                                 Contains(files ? "run.watchdog.save_seconds" : "run.watchdog.evaluate_seconds"));
  }
  WatchView view = healthy();
  for (Sighting& seen : view.ranks) {
    seen.state.phase = Phase::kStart;
    seen.idle_s = 290;
  }
  CHECK(judged(view).finding == Finding::kNone);
  for (Sighting& seen : view.ranks) {
    seen.state.phase = Phase::kStep;  // the first, which compiles
    seen.state.steps_done = 0;
  }
  CHECK(judged(view).finding == Finding::kNone);
  all_idle(view, 301);
  CHECK(judged(view).finding == Finding::kStuck);
  CHECK_THAT(judged(view).text, Contains("in step 30") && Contains("(allowed: 300 s, run.watchdog.start_seconds)"));
}

TEST_CASE("a call that all have entered and that does not end is the network's fault") {
  WatchView view = healthy();
  for (const int rank : {0, 1, 2, 3}) wait_in(view, rank, 0);
  all_idle(view, 10.5);
  const Verdict verdict = judged(view);
  CHECK(verdict.finding == Finding::kLostMessages);
  CHECK_THAT(verdict.text, Contains("all ranks of the group have entered") && Contains("call 11 of group 'world'"));
}

TEST_CASE("different calls in the same place are named, and so is a circle of ranks") {
  WatchView view = healthy();
  for (const int rank : {0, 1, 2, 3}) wait_in(view, rank, 0, rank == 3 ? 6 : 5);
  state_of(view, 3).pending[0].verb = Verb::kAllGather;
  all_idle(view, 10.5);
  Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kDifferentCalls && verdict.ranks == std::vector{0, 3}));
  CHECK_THAT(verdict.text,
             Contains("rank 3 entered all_gather of 64 f32 as call 11 of group 'world', rank 0 all_reduce"));

  view = healthy();
  wait_in(view, 0, 0);
  wait_in(view, 1, 1);
  all_idle(view, 10.5);
  for (const int rank : {2, 3}) {
    wait_in(view, rank, 0);
  }
  verdict = judged(view);
  CHECK((verdict.finding == Finding::kDeadlock));
  CHECK_THAT(verdict.text, Contains("ranks wait for each other") && Contains("rank 0") && Contains("rank 1"));
}

TEST_CASE("who sees a part of a group only does not blame the rest") {
  WatchView view = healthy();
  for (const int rank : {0, 1}) wait_in(view, rank, 0);
  view.ranks.resize(2);
  all_idle(view, 100);
  CHECK(judged(view).finding == Finding::kNone);
  state_of(view, 1).pending = {};
  state_of(view, 1).groups[0].begun = 10;
  const Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kStuck && verdict.ranks == std::vector{1}));
}

TEST_CASE("on a device's queue whoever is behind is at fault") {
  WatchView view = healthy();
  for (Sighting& seen : view.ranks) {
    for (GroupProgress& group : seen.state.groups) group.on_device = group.id != 0 ? 1 : 0;
    seen.state.groups[0].begun = seen.state.groups[0].ended = 11;
  }
  state_of(view, 2).groups[0].begun = 10;
  all_idle(view, 10.5);
  const Verdict verdict = judged(view);
  CHECK((verdict.finding == Finding::kStuck && verdict.ranks == std::vector{2}));
  CHECK_THAT(verdict.text, Contains("ranks 0, 1, 3 wait for it in call 11 of group 'world' at the latest"));
}

TEST_CASE("times count from when a rank was last seen to move, and from the observer's own awakening") {
  Sightings sightings;
  RankState state = healthy().ranks[1].state;
  const auto look = [&](double now_s, bool beats, bool moves) {
    sightings.wake(now_s, 0.25);
    state.beats += beats ? 1 : 0;
    state.progress += moves ? 1 : 0;
    sightings.see(state);
    return sightings.all()[0];
  };
  look(100, true, true);
  Sighting seen = look(100.25, true, false);
  CHECK((seen.silent_s == 0 && seen.idle_s == 0.25));
  for (double now = 100.5; now <= 104; now += 0.25) seen = look(now, false, false);
  CHECK((seen.silent_s == 3.75 && seen.idle_s == 4));
  CHECK(sightings.silent_s(1) == 3.75);
  CHECK(sightings.silent_s(2) == 0);
  // The whole job was stopped for an hour, the observer too: nobody is blamed.
  seen = look(3704, false, false);
  CHECK((seen.silent_s == 0 && seen.idle_s == 0));
  for (double now = 3704.25; now <= 3706; now += 0.25) seen = look(now, false, false);
  CHECK((seen.silent_s == 2 && seen.idle_s == 2));
  CHECK(look(3706.25, true, true).idle_s == 0);
}

TEST_CASE("flight records tell where two ranks' calls part") {
  std::map<int, std::vector<FlightCall>> calls;
  for (const int rank : {0, 1}) {
    for (int64_t i = 1; i <= 5; ++i) {
      FlightCall call;
      call.group = 9;
      call.group_name = "expert";
      const bool differs = rank == 1 && i >= 3;
      call.call = {.verb = differs ? Verb::kBarrier : Verb::kAllGather,
                   .dtype = DType::kF32,
                   .count = differs ? 0 : 8,
                   .number = i,
                   .history = static_cast<uint64_t>(differs ? 100 + i : i)};
      calls[rank].push_back(call);
    }
  }
  CHECK_THAT(find_different_calls(calls),
             Contains("rank 1 entered barrier as call 3 of group 'expert', rank 0 all_gather of 8 f32"));
  calls[1].resize(2);
  CHECK(find_different_calls(calls).empty());
}

}  // namespace shoal
