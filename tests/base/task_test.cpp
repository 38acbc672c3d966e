// tests/base/task_test.cpp: the coroutine patterns our code may use; gcc 12 miscompiles others (see core/base/task.h).
//
// Every pattern counts the objects it moves through coroutine frames: one destroyed twice, or never, is seen.
#include "core/base/task.h"

#include <catch2/catch.hpp>

#include <memory>
#include <string>
#include <vector>

#include "core/base/lane.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

// Counts itself: `live` is 0 when all were destroyed exactly once.
struct Counted {
  static inline int live = 0;
  int value = 0;
  explicit Counted(int v) : value(v) { ++live; }
  Counted(const Counted& other) : value(other.value) { ++live; }
  Counted(Counted&& other) noexcept : value(other.value) { ++live; }
  Counted& operator=(const Counted&) = default;
  Counted& operator=(Counted&&) = default;
  ~Counted() { --live; }
};

struct Options {
  int a = 0;
  std::string name;
};

// An operation that becomes complete when it is waited for.
struct Pending : Operation {
  bool complete = false;
  bool done() override { return complete; }
  void wait() override { complete = true; }
};

struct Fixture {
  Allocator allocator{DeviceKind::kCpu};
  Stream stream{allocator};
  Lane lane{stream, 0};

  Fixture() { REQUIRE(Counted::live == 0); }
  ~Fixture() {
    CHECK(Counted::live == 0);
    CHECK(allocator.use().total_now_bytes == 0);
  }
  Tensor tensor(float value) {
    const Tensor t = stream.activation({4}, DType::kF32);
    std::fill_n(t.data<float>(), 4, value);
    return t;
  }
};

Task<void> cross_wire(Lane& lane) { co_await lane.wire(std::make_shared<Pending>(), WireKind::kOther); }

Task<int> add_one(int x, Lane& lane) {
  co_await cross_wire(lane);
  co_return x + 1;
}

Task<Counted> pass(Counted x, Lane& lane) {
  co_await cross_wire(lane);
  co_return x;
}

Task<Tensor> doubled(Tensor x, Lane& lane) {
  co_await cross_wire(lane);
  const Tensor y = lane.compute().activation(x.shape(), x.dtype());
  for (int64_t i = 0; i < x.numel(); ++i) y.data<float>()[i] = 2 * x.data<float>()[i];
  co_return y;
}

Task<std::unique_ptr<int>> grow(std::unique_ptr<int> x, Lane& lane) {
  co_await cross_wire(lane);
  ++*x;
  co_return x;
}

Task<bool> is_positive(int x, Lane& lane) { co_return co_await add_one(x, lane) > 1; }

Task<int> fail_at(int depth, Lane& lane) {
  const Counted guard(depth);
  if (depth == 0) {
    co_await cross_wire(lane);
    fail("no route at depth {}", depth);
  }
  co_return co_await fail_at(depth - 1, lane) + 1;
}

}  // namespace

TEST_CASE_METHOD(Fixture, "nested tasks return their values", "[task]") {
  const auto sum = [](Lane& l) -> Task<int> {
    const int a = co_await add_one(1, l);
    const int b = co_await add_one(a, l);
    co_return a * 10 + b;
  };
  REQUIRE(run_lane(lane, sum(lane)) == 23);
}

TEST_CASE_METHOD(Fixture, "awaits may be arguments of awaits and operands of sums", "[task]") {
  const auto nested = [](Lane& l) -> Task<int> {
    co_return co_await add_one(co_await add_one(co_await add_one(0, l), l), l) + co_await add_one(10, l);
  };
  REQUIRE(run_lane(lane, nested(lane)) == 14);
}

TEST_CASE_METHOD(Fixture, "tensors by value: named, moved and temporary", "[task]") {
  const auto flow = [](Fixture& f, Lane& l) -> Task<float> {
    Tensor named = f.tensor(1);
    const Tensor a = co_await doubled(named, l);
    const Tensor b = co_await doubled(std::move(named), l);
    const Tensor c = co_await doubled(f.tensor(3), l);
    const Tensor d = co_await doubled(co_await doubled(f.tensor(4), l), l);
    co_return a.data<float>()[0] + b.data<float>()[1] + c.data<float>()[2] + d.data<float>()[3];
  };
  REQUIRE(run_lane(lane, flow(*this, lane)) == 2 + 2 + 6 + 16);
}

TEST_CASE_METHOD(Fixture, "counted values by value: named, moved and temporary", "[task]") {
  const auto flow = [](Lane& l) -> Task<int> {
    Counted named(1);
    const Counted a = co_await pass(named, l);
    const Counted b = co_await pass(std::move(named), l);
    const Counted c = co_await pass(Counted(5), l);
    co_return a.value + b.value + c.value;
  };
  REQUIRE(run_lane(lane, flow(lane)) == 7);
}

TEST_CASE_METHOD(Fixture, "move-only values travel in and out", "[task]") {
  const auto flow = [](Lane& l) -> Task<int> {
    auto p = std::make_unique<int>(1);
    p = co_await grow(std::move(p), l);
    p = co_await grow(co_await grow(std::move(p), l), l);
    co_return *p;
  };
  REQUIRE(run_lane(lane, flow(lane)) == 4);
}

TEST_CASE_METHOD(Fixture, "an exception travels through six levels of tasks", "[task]") {
  REQUIRE_THROWS_WITH(run_lane(lane, fail_at(6, lane)), Contains("no route at depth 0"));
}

TEST_CASE_METHOD(Fixture, "try and catch stand around co_await", "[task]") {
  const auto flow = [](Lane& l) -> Task<int> {
    int result = 0;
    for (int i = 0; i < 3; ++i) {
      const Counted guard(i);
      try {
        result += co_await fail_at(i, l);
      } catch (const Error& error) {
        result += 100;
      }
      result += co_await add_one(0, l);
    }
    co_return result;
  };
  REQUIRE(run_lane(lane, flow(lane)) == 303);
}

TEST_CASE_METHOD(Fixture, "co_await in if, while, && and ||", "[task]") {
  const auto flow = [](Lane& l) -> Task<int> {
    int n = 0;
    if (co_await is_positive(1, l)) n += 1;
    if (co_await is_positive(0, l)) n += 1000;
    while (co_await add_one(n, l) < 5) ++n;
    if (co_await is_positive(1, l) && co_await is_positive(2, l)) n += 10;
    if (co_await is_positive(0, l) && co_await is_positive(2, l)) n += 1000;
    if (co_await is_positive(0, l) || co_await is_positive(2, l)) n += 20;
    for (int i = co_await add_one(0, l); i < 3; ++i) n += 100;
    co_return n;
  };
  REQUIRE(run_lane(lane, flow(lane)) == 234);
}

TEST_CASE_METHOD(Fixture, "a named aggregate and a named lambda are safe", "[task]") {
  const auto use = [](Options options, Lane& l) -> Task<int> {
    co_await cross_wire(l);
    co_return options.a + static_cast<int>(options.name.size());
  };
  const auto flow = [&use](Lane& l) -> Task<int> {
    const Options options{.a = 2, .name = "a name too long for the small string"};
    const auto inner = [extra = Counted(40)](Lane& wire) -> Task<int> {
      co_return co_await add_one(extra.value, wire);
    };
    const int a = co_await use(options, l);
    const int b = co_await inner(l);
    co_return a + b;
  };
  REQUIRE(run_lane(lane, flow(lane)) == 2 + 36 + 41);
}

TEST_CASE_METHOD(Fixture, "a choice between tensors is named before it is passed", "[task]") {
  // `co_await doubled(first ? a : b, l)` destroys the chosen copy twice on gcc 12.
  const auto flow = [this](bool first, Lane& l) -> Task<float> {
    const Tensor a = tensor(1), b = tensor(5);
    Tensor chosen = first ? a : b;
    const Tensor y = co_await doubled(std::move(chosen), l);
    co_return y.data<float>()[0];
  };
  REQUIRE(run_lane(lane, flow(true, lane)) == 2);
  REQUIRE(run_lane(lane, flow(false, lane)) == 10);
}

TEST_CASE_METHOD(Fixture, "a saved struct is filled through a reference that outlives the task", "[task]") {
  struct Saved {
    Tensor x;
    std::vector<Tensor> inner;
  };
  const auto forward = [](Tensor x, Saved& saved, Lane& l) -> Task<Tensor> {
    saved.x = x;
    saved.inner.push_back(co_await doubled(x, l));
    Tensor y = co_await doubled(saved.inner.back(), l);
    co_return y;
  };
  Saved saved;
  REQUIRE(run_lane(lane, forward(tensor(3), saved, lane)).to_vector<float>()[0] == 12);
  REQUIRE(saved.inner[0].to_vector<float>()[0] == 6);
}

TEST_CASE_METHOD(Fixture, "tasks destroyed before and in the middle of their run release everything", "[task]") {
  { const Task<Counted> never_started = pass(Counted(1), lane); }
  REQUIRE(Counted::live == 0);

  // The second lane fails while the first stands three tasks deep at a wire.
  const auto deep = [](Fixture& f, Lane& l) -> Task<void> {
    const Counted guard(1);
    const Tensor kept = f.tensor(1);
    for (int i = 0; i < 100; ++i) {
      const Tensor y = co_await doubled(co_await doubled(kept, l), l);
      const Counted c = co_await pass(Counted(i), l);
    }
  };
  const auto fails = [](Lane& l) -> Task<void> {
    co_await cross_wire(l);
    co_await fail_at(3, l);
  };
  Lane other(stream, 1);
  Lane* const lanes[] = {&lane, &other};
  std::vector<Task<void>> tasks;
  tasks.push_back(deep(*this, lane));
  tasks.push_back(fails(other));
  REQUIRE_THROWS_WITH(run_lanes(lanes, std::move(tasks)), Contains("no route"));
}

TEST_CASE_METHOD(Fixture, "a task may be moved and kept before it is awaited", "[task]") {
  const auto flow = [](Lane& l) -> Task<int> {
    std::vector<Task<int>> later;
    for (int i = 0; i < 3; ++i) later.push_back(add_one(i, l));
    Task<int> replaced = add_one(100, l);
    replaced = add_one(50, l);
    int sum = co_await std::move(replaced);
    for (Task<int>& task : later) sum += co_await task;
    co_return sum;
  };
  REQUIRE(run_lane(lane, flow(lane)) == 51 + 1 + 2 + 3);
}

TEST_CASE_METHOD(Fixture, "a task is awaited once", "[task]") {
  const auto twice = [](Lane& l) -> Task<int> {
    Task<int> task = add_one(1, l);
    const int first = co_await task;
    const int second = co_await task;
    co_return first + second;
  };
  REQUIRE_THROWS_WITH(run_lane(lane, twice(lane)), Contains("a Task is awaited exactly once"));
  const auto nothing = []() -> Task<void> { co_await Task<void>(); };
  REQUIRE_THROWS_WITH(run_lane(lane, nothing()), Contains("a Task is awaited exactly once"));
}

}  // namespace shoal
