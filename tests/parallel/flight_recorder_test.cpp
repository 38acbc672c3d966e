// tests/parallel/flight_recorder_test.cpp: what a rank records is what another reads, while it writes too.
#include "parallel/flight_recorder.h"

#include <catch2/catch.hpp>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "parallel/device_call_check.h"
#include "parallel/process_facts.h"
#include "parallel/thread_communicator.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

std::shared_ptr<std::byte> memory_for(int ranks) {
  const auto words =
      std::make_shared<std::vector<uint64_t>>(static_cast<size_t>(FlightRecorder::shared_bytes(ranks) / 8));
  return {words, reinterpret_cast<std::byte*>(words->data())};
}

CollectiveCall call_number(int64_t number) {
  return {.verb = Verb::kAllGather,
          .dtype = DType::kBF16,
          .count = 10 * number,
          .number = number,
          .history = static_cast<uint64_t>(number)};
}

}  // namespace

TEST_CASE("a rank's record tells another rank who it is, what it is at and what it waits in") {
  const auto memory = memory_for(2);
  FlightRecorder reader(memory, 2, 0), rank(memory, 2, 1);
  rank.set_place(7, 3);
  const int slot = rank.add_group(99, "expert", 4, false);
  rank.rename_group(slot, "a name that is longer than there is room for");
  rank.begin_step(12);
  const uint64_t first = rank.begun(slot, 99, call_number(1), 0, 1, 1000);
  rank.begun(slot, 99, call_number(2), 2, 2, 2000);
  rank.ended(first, 1500);
  rank.beat();
  const RankState state = reader.state(1);
  CHECK((state.rank == 7 && state.node == 3 && state.pid == getpid() && state.beats == 1));
  CHECK(state.host.view() == host_name().substr(0, 63));
  CHECK((state.phase == Phase::kStep && state.step == 12 && state.steps_done == 0));
  CHECK((state.groups[0].id == 99 && state.groups[0].begun == 2 && state.groups[0].ended == 1));
  CHECK((state.groups[0].size == 4 && state.groups[0].name.view() == "a name that is longer t"));
  CHECK((state.pending[0].group == 99 && state.pending[0].number == 2 && state.pending[0].verb == Verb::kAllGather));
  CHECK(state.pending[1].verb == Verb::kNone);
  const std::vector<FlightCall> calls = reader.calls(1);
  REQUIRE(calls.size() == 2);
  CHECK((calls[0].begun_ns == 1000 && calls[0].ended_ns == 1500 && calls[1].ended_ns == 0 && calls[1].step == 12));
  CHECK_THAT(to_json(calls[0], 2'000'001'000), Contains(R"("verb": "all_gather", "dtype": "bf16", "count": 10)"));
  CHECK_THAT(to_json(calls[1], 3000), Contains(R"("ended_ns": null)"));
  CollectiveCall found;
  CHECK((reader.find_call(7, 99, 1, found) && found.number == 1));  // its second round
  CHECK(!reader.find_call(7, 99, 3, found));
  CHECK(!reader.find_call(7, 98, 1, found));
  const uint64_t before = reader.state(1).progress;
  rank.end_step();
  CHECK(reader.state(1).progress != before);
  CHECK(reader.state(0).rank == 0);
  rank.remove_group(slot);
  CHECK(reader.state(1).groups[0].begun == 2);  // of a group that is gone, too
  CHECK(rank.add_group(50, "another", 2, false) == 1);
  CHECK(rank.add_group(99, "expert", 4, false) == 0);
  CHECK(reader.state(1).groups[0].begun == 0);
  reader.ask_for_dump();
  CHECK((rank.dump_asked() && !reader.dumped(1)));
  rank.set_dumped(1);
  CHECK(reader.dumped(1));
}

TEST_CASE("the last 64 calls are kept, and groups beyond the room for them have no name") {
  FlightRecorder rank(nullptr, 1, 0);
  int slot = -1;
  for (int i = 0; i < kMaxFlightGroups; ++i) slot = rank.add_group(static_cast<uint64_t>(i + 1), "g", 2, false);
  CHECK(slot == kMaxFlightGroups - 1);
  CHECK(rank.add_group(1000, "one too many", 2, false) == -1);
  rank.remove_group(4);
  CHECK(rank.add_group(1000, "not too many", 2, false) == 4);
  for (int64_t i = 1; i <= 200; ++i) rank.ended(rank.begun(i % 2 == 0 ? slot : -1, 5, call_number(i), i, i, i), i + 1);
  const std::vector<FlightCall> calls = rank.calls(0);
  REQUIRE(calls.size() == kFlightCalls);
  for (size_t i = 0; i < calls.size(); ++i) CHECK(calls[i].sequence == 137 + i);
  rank.ended(3, 77);  // long overwritten
  CHECK(rank.calls(0).size() == kFlightCalls);
}

TEST_CASE("an error that a lower rank has told is not told again") {
  const auto memory = memory_for(3);
  FlightRecorder zero(memory, 3, 0), one(memory, 3, 1), two(memory, 3, 2);
  CHECK(one.claim_error());
  CHECK_FALSE(two.claim_error());
  CHECK(zero.claim_error());  // it may be the cause
  CHECK_FALSE(one.claim_error());
}

TEST_CASE("a record is read while it is written", "[threads]") {
  FlightRecorder rank(nullptr, 1, 0);
  std::atomic<bool> stop = false;
  std::atomic<int64_t> looks = 0;
  std::jthread reader([&] {
    while (!stop) {
      const RankState state = rank.state(0);
      for (const FlightCall& call : rank.calls(0)) looks += call.sequence > 0 ? 1 : 0;
      rank.beat();
      looks += state.groups[0].begun >= 0 ? 1 : 0;
    }
  });
  const int slot = rank.add_group(9, "data", 2, false);
  for (int64_t i = 1; i <= 20000; ++i) rank.ended(rank.begun(slot, 9, call_number(i), i, i, i), i + 1);
  while (looks == 0) std::this_thread::yield();
  stop = true;
  reader.join();
  CHECK(rank.state(0).groups[0].ended == 20000);
}

TEST_CASE("calls on devices are compared between steps", "[threads]") {
  const auto compare = [](int64_t calls_of_1, uint64_t history_of_1) {
    run_thread_ranks(3, {}, [&](Communicator& world, Allocator&) {
      GroupProgress all{.id = 9, .begun = 5, .ended = 5, .history = 77, .size = 3, .on_device = 1, .name = {}};
      all.name.set("data");
      if (world.rank() == 1) {
        all.begun = calls_of_1;
        all.history = history_of_1;
      }
      // A group of its own each, which nobody else has.
      GroupProgress own{.id = 100 + static_cast<uint64_t>(world.rank()),
                        .begun = world.rank(),
                        .ended = 0,
                        .history = 0,
                        .size = 1,
                        .on_device = 1,
                        .name = {}};
      check_device_calls(world, {own, all});
    });
  };
  CHECK_NOTHROW(compare(5, 77));
  CHECK_THROWS_WITH(compare(4, 76), Contains("of group 'data' on its device") && Contains("4"));
  CHECK_THROWS_WITH(compare(5, 76), Contains("5, which are not the same"));
}

TEST_CASE("processes are told apart by when they were started") {
  CHECK(process_start(getpid()) > 0);
  CHECK(process_state(getpid(), process_start(getpid())) == ProcessState::kAlive);
  CHECK(process_state(getpid(), process_start(getpid()) + 1) == ProcessState::kGone);
  CHECK(process_state(999'999'999, 5) == ProcessState::kGone);
  CHECK(process_state(getpid(), 0) == ProcessState::kUnknown);
}

}  // namespace shoal
