// tests/base/lane_test.cpp: the rotation of lanes, exactly; values, failures, and stacks that do not grow.
#include "core/base/lane.h"

#include <catch2/catch.hpp>

#include <chrono>
#include <string>
#include <thread>

using Catch::Matchers::Contains;

namespace shoal {

namespace {

// Complete after `looks` calls of done(), or when waited for.
struct Slow : Operation {
  explicit Slow(int looks) : looks_left(looks) {}
  bool done() override { return looks_left-- <= 0; }
  void wait() override { looks_left = 0; }
  int looks_left;
};

struct Broken : Operation {
  bool done() override { return false; }
  void wait() override { fail("rank 3 is gone"); }
};

struct Fixture {
  Allocator allocator{DeviceKind::kCpu};
  Stream stream{allocator};
};

}  // namespace

TEST_CASE_METHOD(Fixture, "lanes rotate at every wire point, whatever completes first", "[lane]") {
  // Readiness differs from run to run; the order must not.
  for (const int looks : {0, 1, 5}) {
    Lane a(stream, 0);
    Lane b(stream, 1);
    Lane c(stream, 2);
    std::string order;
    const auto walk = [&order, looks](std::string name, int wires, Lane& lane) -> Task<void> {
      for (int i = 0; i < wires; ++i) {
        order += name + std::to_string(i) + " ";
        co_await lane.wire(std::make_shared<Slow>(looks * lane.index()), WireKind::kDispatch);
      }
      order += name + "! ";
    };
    Lane* const lanes[] = {&a, &b, &c};
    std::vector<Task<void>> tasks;
    tasks.push_back(walk("a", 3, a));
    tasks.push_back(walk("b", 1, b));
    tasks.push_back(walk("c", 2, c));
    run_lanes(lanes, std::move(tasks));
    REQUIRE(order == "a0 b0 c0 a1 b! c1 a2 c! a! ");
  }
}

TEST_CASE_METHOD(Fixture, "a wire inside a nested task rotates too, plain awaits do not", "[lane]") {
  Lane a(stream, 0);
  Lane b(stream, 1);
  std::string order;
  const auto inner = [&order](std::string name, bool wire, Lane& lane) -> Task<void> {
    order += name + "< ";
    if (wire) co_await lane.wire(nullptr, WireKind::kDispatch);
    order += name + "> ";
  };
  const auto outer = [&](std::string name, Lane& lane) -> Task<void> {
    co_await inner(name + "1", false, lane);
    co_await inner(name + "2", true, lane);
  };
  Lane* const lanes[] = {&a, &b};
  std::vector<Task<void>> tasks;
  tasks.push_back(outer("a", a));
  tasks.push_back(outer("b", b));
  run_lanes(lanes, std::move(tasks));
  REQUIRE(order == "a1< a1> a2< b1< b1> b2< a2> b2> ");
}

TEST_CASE_METHOD(Fixture, "a million waits on complete operations do not grow the stack", "[lane]") {
  Lane lane(stream, 0);
  const auto complete = std::make_shared<Slow>(0);
  uintptr_t lowest = UINTPTR_MAX;
  uintptr_t highest = 0;
  const auto note_depth = [&] {
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    lowest = std::min(lowest, here);
    highest = std::max(highest, here);
  };
  const auto step = [&](Lane& l) -> Task<int> {
    co_await l.wire(complete, WireKind::kDispatch);
    note_depth();
    co_return 1;
  };
  const auto middle = [&](Lane& l) -> Task<int> { co_return co_await step(l); };
  const auto loop = [&](Lane& l) -> Task<int> {
    int sum = 0;
    for (int i = 0; i < 500000; ++i) sum += co_await middle(l);
    for (int i = 0; i < 500000; ++i) {
      co_await l.wire(complete, WireKind::kDispatch);
      note_depth();
      ++sum;
    }
    co_return sum;
  };
  REQUIRE(run_lane(lane, loop(lane)) == 1000000);
  REQUIRE(highest - lowest < 4096);
}

TEST_CASE_METHOD(Fixture, "an exception in one lane leaves after the others were abandoned, and the lanes run again",
                 "[lane]") {
  Lane a(stream, 0);
  Lane b(stream, 1);
  std::string order;
  const auto fails = [&](Lane& lane) -> Task<void> {
    co_await lane.wire(std::make_shared<Slow>(1), WireKind::kDispatch);
    fail("bad token in lane {}", lane.index());
  };
  const auto works = [&](Lane& lane) -> Task<void> {
    const Tensor kept = lane.compute().activation({8}, DType::kF32);
    for (int i = 0; i < 5; ++i) {
      order += std::to_string(i);
      co_await lane.wire(nullptr, WireKind::kDispatch);
    }
  };
  Lane* const lanes[] = {&a, &b};
  std::vector<Task<void>> tasks;
  tasks.push_back(works(a));
  tasks.push_back(fails(b));
  REQUIRE_THROWS_WITH(run_lanes(lanes, std::move(tasks)), Contains("bad token in lane 1"));
  REQUIRE(order == "01");
  REQUIRE(allocator.use().total_now_bytes == 0);

  order.clear();
  run_lane(a, works(a));
  REQUIRE(order == "01234");
}

TEST_CASE_METHOD(Fixture, "what went wrong on the wire is thrown where it was awaited", "[lane]") {
  Lane lane(stream, 0);
  const auto catches = [](Lane& l) -> Task<std::string> {
    std::string seen;
    try {
      co_await l.wire(std::make_shared<Broken>(), WireKind::kDispatch);
    } catch (const Error& error) {
      seen = error.what();
    }
    co_await l.wire(nullptr, WireKind::kDispatch);
    co_return seen;
  };
  REQUIRE(run_lane(lane, catches(lane)) == "rank 3 is gone");
  const auto throws = [](Lane& l) -> Task<void> { co_await l.wire(std::make_shared<Broken>(), WireKind::kDispatch); };
  REQUIRE_THROWS_WITH(run_lane(lane, throws(lane)), Contains("rank 3 is gone"));
}

TEST_CASE_METHOD(Fixture, "run_lane returns values of any movable type", "[lane]") {
  Lane lane(stream, 4);
  REQUIRE(lane.index() == 4);
  const auto text = [](Lane& l) -> Task<std::unique_ptr<std::string>> {
    co_await l.wire(nullptr, WireKind::kDispatch);
    co_return std::make_unique<std::string>("moved");
  };
  REQUIRE(*run_lane(lane, text(lane)) == "moved");
  const auto at_once = []() -> Task<int> { co_return 7; };
  REQUIRE(run_lane(lane, at_once()) == 7);
}

TEST_CASE_METHOD(Fixture, "time blocked on the wire counts as exposed, time behind other lanes does not", "[lane]") {
  struct Sleeps : Operation {
    bool complete = false;
    bool done() override { return complete; }
    void wait() override {
      if (!complete) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      complete = true;
    }
  };
  Lane a(stream, 0);
  Lane b(stream, 1);
  const auto waits = [](OperationPtr operation, WireKind kind, Lane& lane) -> Task<void> {
    co_await lane.wire(operation, kind);
  };
  Lane* const lanes[] = {&a, &b};
  std::vector<Task<void>> tasks;
  tasks.push_back(waits(std::make_shared<Sleeps>(), WireKind::kDispatch, a));
  tasks.push_back(waits(std::make_shared<Slow>(0), WireKind::kCombine, b));
  run_lanes(lanes, std::move(tasks));
  const TimeSums sums = stream.times().sums();
  for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
    if (kind == static_cast<size_t>(WireKind::kDispatch)) {
      REQUIRE(sums.waits_s[kind] >= 0.003);
    } else {
      REQUIRE(sums.waits_s[kind] == 0);
    }
  }
  REQUIRE(sums.waits_total_s() == sums.waits_s[static_cast<size_t>(WireKind::kDispatch)]);
  REQUIRE(sums.ops_s == 0);
}

TEST_CASE_METHOD(Fixture, "a wait in place gives no other lane a turn", "[lane]") {
  for (const int looks : {0, 4}) {
    Lane a(stream, 0);
    Lane b(stream, 1);
    std::string order;
    const auto walk = [&order, looks](std::string name, Lane& lane) -> Task<void> {
      order += name + "0 ";
      co_await lane.wire_in_place(std::make_shared<Slow>(looks), WireKind::kRowCounts);
      order += name + "1 ";
      co_await lane.wire_in_place(nullptr, WireKind::kRowCounts);
      order += name + "2 ";
      co_await lane.wire(std::make_shared<Slow>(looks), WireKind::kDispatch);
      order += name + "! ";
    };
    Lane* const lanes[] = {&a, &b};
    std::vector<Task<void>> tasks;
    tasks.push_back(walk("a", a));
    tasks.push_back(walk("b", b));
    run_lanes(lanes, std::move(tasks));
    REQUIRE(order == "a0 a1 a2 b0 b1 b2 a! b! ");
    REQUIRE(a.wire_points() == 1);
  }
}

TEST_CASE_METHOD(Fixture, "one queued transfer leaves at every wire point, behind what the lane waits for", "[lane]") {
  std::string order;
  struct Named : Operation {
    Named(std::string& o, std::string n) : order(o), name(std::move(n)) {}
    void post() override { order += name + " "; }
    bool done() override { return true; }
    void wait() override {}
    std::string& order;
    std::string name;
  };
  PostQueue queue;
  std::vector<OperationPtr> queued;
  for (int i = 0; i < 4; ++i) {
    queued.push_back(queue.add([&order, i]() -> OperationPtr {
      order += "bulk" + std::to_string(i) + " ";
      return nullptr;
    }));
  }
  Lane lane(stream, 0);
  lane.set_bulk(&queue);
  const auto walk = [&](Lane& l) -> Task<void> {
    const auto first = std::make_shared<Named>(order, "rows");
    co_await l.wire(first, WireKind::kDispatch);
    const auto counts = std::make_shared<Named>(order, "counts");
    co_await l.wire_in_place(counts, WireKind::kRowCounts);
    co_await l.wire(queued[2], WireKind::kWeights);  // not posted yet: what is in front of it, it, and one behind it
    order += "end ";
  };
  run_lane(lane, walk(lane));
  REQUIRE(order == "rows bulk0 counts bulk1 bulk2 bulk3 end ");
  REQUIRE(queue.empty());
  for (const OperationPtr& operation : queued) REQUIRE(operation->done());
}

TEST_CASE_METHOD(Fixture, "a queued transfer is posted once, by whoever waits first, and its failure is the waiter's",
                 "[lane]") {
  PostQueue queue;
  int posts = 0;
  const OperationPtr late = queue.add([&]() -> OperationPtr {
    ++posts;
    return std::make_shared<Broken>();
  });
  REQUIRE(!late->done());
  REQUIRE(posts == 0);
  REQUIRE_THROWS_WITH(late->wait(), Contains("rank 3 is gone"));
  late->post();
  queue.post_all();
  REQUIRE(posts == 1);
  OperationPtr orphan;
  {
    PostQueue gone;
    orphan = gone.add([]() -> OperationPtr { return nullptr; });
  }
  REQUIRE_THROWS_WITH(orphan->wait(), Contains("queue is gone"));
}

TEST_CASE_METHOD(
    Fixture, "deferred work runs behind what is posted: half at the lane's own wire point, the rest at its neighbour's",
    "[lane]") {
  Lane a(stream, 0);
  Lane b(stream, 1);
  std::string order;
  const auto defers = [&order](Lane& lane) -> Task<void> {
    for (int i = 0; i < 2; ++i) {
      for (int k = 0; k < 3; ++k) lane.defer([&order, i, k] { order += fmt::format("w{}{} ", i, k); });
      order += "a" + std::to_string(i) + " ";
      co_await lane.wire(nullptr, WireKind::kDispatch);
    }
    lane.defer([&order] { order += "w2 "; });
    order += "a! ";
  };
  const auto walks = [&order](Lane& lane) -> Task<void> {
    order += "b0 ";
    co_await lane.wire(nullptr, WireKind::kDispatch);
    order += "b! ";
  };
  const auto run = [&](bool both) {
    order.clear();
    std::vector<Lane*> lanes{&a};
    std::vector<Task<void>> tasks;
    tasks.push_back(defers(a));
    if (both) {
      lanes.push_back(&b);
      tasks.push_back(walks(b));
    }
    run_lanes(lanes, std::move(tasks));
    return order;
  };
  REQUIRE(run(false) == "w00 w01 w02 a0 w10 w11 w12 a1 w2 a! ");
  a.set_deferring(true);
  REQUIRE(run(false) == "a0 w00 w01 w02 a1 w10 w11 w12 a! w2 ");
  REQUIRE(run(true) == "a0 w00 w01 b0 w02 a1 w10 w11 b! w12 a! w2 ");
}

TEST_CASE_METHOD(Fixture, "lanes and tasks come in equal numbers; none is fine", "[lane]") {
  run_lanes({}, {});
  Lane lane(stream, 0);
  Lane* const lanes[] = {&lane};
  REQUIRE_THROWS_WITH(run_lanes(lanes, {}), Contains("1 vs 0"));
}

}  // namespace shoal
