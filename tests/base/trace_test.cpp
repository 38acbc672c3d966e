// tests/base/trace_test.cpp: what a trace holds, that no trace costs nothing, and ops that throw.
#include "core/base/trace.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>

#include "core/base/lane.h"
#include "core/base/steady_clock.h"
#include "tests/device_under_test.h"

namespace {

// Of this program. Tests look at the difference.
std::atomic<int64_t> num_allocations = 0;

void* counted(std::size_t bytes) {
  ++num_allocations;
  if (void* block = std::malloc(bytes == 0 ? 1 : bytes)) return block;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {  // std::stable_sort's
  ++num_allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }

using namespace shoal;
using namespace std::chrono_literals;

namespace {

struct Finished : Operation {
  bool done() override { return true; }
  void wait() override {}
};

}  // namespace

TEST_CASE("without a trace an op allocates nothing and a section does nothing", "[trace]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  const Work work{.op = "test.op", .executed_flops = 10};
  stream.launch(work, [] {});  // the account has its line
  const int64_t before = num_allocations;
  for (int i = 0; i < 1000; ++i) {
    const TraceSection section(stream.trace(), TraceTrack::kOptimizer, "optimizer");
    stream.launch(work, [] {});
  }
  const int64_t allocated = num_allocations - before;
  CHECK(allocated == 0);
  CHECK(stream.work().at("test.op").calls == 1001);
}

TEST_CASE("ops, waits, transfers and sections are recorded in order, for their lane", "[trace]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  Tracer tracer;
  tracer.start();
  stream.set_trace(&tracer);
  tracer.enter_lane(1);
  tracer.set_microbatch(1, 5);
  tracer.set_layer(1, 3);
  {
    const TraceSection section(stream.trace(), TraceTrack::kOptimizer, "optimizer");
    stream.launch({.op = "adamw", .kind = WorkKind::kOptimizer, .executed_flops = 7, .bytes = 9},
                  [] { std::this_thread::sleep_for(2ms); });
  }
  const int64_t now = steady_ns();
  tracer.wait(WireKind::kCombine, now, now + 1000, 0);
  WireSpan span{.posted_ns = now + 10, .completed_ns = now + 30, .bytes = 64, .group = 3, .tag = 8};
  span.rank = 1, span.size = 4, span.sent_to = 5;
  tracer.wire(WireKind::kDispatch, span, 1);
  tracer.wire(WireKind::kDispatch, {}, 1);  // not known when
  span.rank = 0, span.size = 1;
  tracer.wire(WireKind::kOther, span, 1);  // nobody to send to
  stream.set_trace(nullptr);
  stream.launch({.op = "later"}, [] {});

  const std::vector<TraceRecord> records = tracer.take();
  REQUIRE(records.size() == 4);
  CHECK(records[0].track == TraceTrack::kOptimizer);
  CHECK(std::string(records[1].name) == "adamw");
  CHECK(records[1].kind == static_cast<uint8_t>(WorkKind::kOptimizer));
  CHECK(records[1].flops == 7);
  CHECK(records[1].bytes == 9);
  CHECK((records[1].lane == 1 && records[1].microbatch == 5 && records[1].layer == 3));
  CHECK(records[1].end_ns - records[1].begin_ns >= 2'000'000);
  CHECK((records[0].begin_ns <= records[1].begin_ns && records[0].end_ns >= records[1].end_ns));
  CHECK(std::string(records[2].name) == "combine");
  CHECK((records[2].track == TraceTrack::kWait && records[2].lane == 0 && records[2].microbatch == -1));
  CHECK(std::string(records[3].name) == "dispatch");
  CHECK((records[3].track == TraceTrack::kWire && records[3].group == 3 && records[3].tag == 8));
  CHECK(records[3].bytes == 64);
  CHECK((records[3].rank == 1 && records[3].size == 4 && records[3].sent_to == 5));
  CHECK(tracer.take().empty());
}

TEST_CASE("deferred work is recorded where it was deferred; behind leave_place() nothing has a place", "[trace]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  Tracer tracer;
  tracer.start();
  stream.set_trace(&tracer);
  Lane lane(stream, 0);
  const auto op = [&stream](const char* name) { stream.launch({.op = name}, [] {}); };
  const auto body = [&]() -> Task<void> {
    lane.set_deferring(true);
    lane.set_place(4, 2);
    lane.defer([&] { op("deferred"); });
    lane.set_place(-1, 1);
    op("at once");
    const OperationPtr nothing = std::make_shared<Finished>();
    co_await lane.wire(nothing, WireKind::kCombine);
    op("behind");
  };
  run_lane(lane, body());
  lane.leave_place();
  run_lane(lane, [&]() -> Task<void> {
    op("of none");
    co_return;
  }());
  stream.set_trace(nullptr);

  const auto place_of = [records = tracer.take()](const std::string& name) {
    for (const TraceRecord& record : records) {
      if (record.name == name) return std::pair(record.microbatch, record.layer);
    }
    return std::pair(-2, -2);
  };
  CHECK(place_of("deferred") == std::pair(4, 2));
  CHECK(place_of("at once") == std::pair(4, 1));
  CHECK(place_of("behind") == std::pair(4, 1));
  CHECK(place_of("of none") == std::pair(-1, -1));
}

TEST_CASE("an op that throws leaves nothing open, on any device", "[trace][cuda]") {
  Allocator allocator(device_under_test());
  Stream stream(allocator);
  stream.set_profile(true);
  Tracer tracer(stream.queue());
  tracer.start();
  stream.set_trace(&tracer);
  const auto good = [] {};
  const auto bad = [] { fail("token 9 at row 3"); };
  for (int i = 0; i < 3; ++i) {
    stream.launch({.op = "good"}, good, good);
    CHECK_THROWS_AS(stream.launch({.op = "bad"}, bad, bad), Error);
  }
  const std::vector<TraceRecord> records = tracer.take();
  REQUIRE(records.size() == 3);
  for (const TraceRecord& record : records) CHECK(std::string(record.name) == "good");
  CHECK(stream.work().size() == 1);
  CHECK(stream.work().at("good").calls == 3);
}

TEST_CASE("on a GPU, ops and waits of the queue lie on the host's clock", "[trace][cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  Allocator allocator(DeviceKind::kCuda);
  Stream stream(allocator);
  Tracer tracer(stream.queue());
  tracer.start();
  stream.set_trace(&tracer);
  const Tensor x = stream.workspace({1 << 20}, DType::kF32);
  const auto zero = [&] { zero_rows_cuda(x.raw(), 4 << 20, 4 << 20, 1, stream.queue()); };
  const int64_t begin = steady_ns();
  {
    const TraceSection section(stream.trace(), TraceTrack::kOptimizer, "optimizer");
    stream.launch({.op = "zero"}, zero, zero);
    stream.times().begin_wait(WireKind::kGradients, 0);
    stream.times().end_wait();
    stream.launch({.op = "zero"}, zero, zero);
  }
  stream.wait();
  const int64_t end = steady_ns();
  const std::vector<TraceRecord> records = tracer.take();
  REQUIRE(records.size() == 4);
  const int64_t grain = tracer.clock_error_ns() + 2000;
  int64_t last = begin - grain;
  for (const TraceRecord& record : records) {
    CHECK(record.begin_ns >= last - 1);
    CHECK(record.end_ns >= record.begin_ns);
    CHECK(record.end_ns <= end + grain);
    last = record.begin_ns;
  }
  CHECK(records[0].track == TraceTrack::kOptimizer);
  CHECK(records[2].track == TraceTrack::kWait);
}

namespace {

// Sleeps when it is waited for, and then computes: a sum that was due.
struct SleepsAndSums : Operation {
  explicit SleepsAndSums(Stream& of) : stream(of) {}
  bool done() override { return false; }
  void wait() override {
    std::this_thread::sleep_for(2ms);
    const auto nap = [] { std::this_thread::sleep_for(1ms); };
    stream.launch({.op = "sum"}, nap, nap);
  }
  Stream& stream;
};

// Seconds by track and kind of wire, as a timeline's reader counts them: what an op covers is no waiting.
struct RecordSums {
  double ops_s = 0, waits_s = 0;
};
RecordSums sums_of(const std::vector<TraceRecord>& records, WireKind kind) {
  RecordSums sums;
  for (const TraceRecord& record : records) {
    const double seconds = static_cast<double>(record.end_ns - record.begin_ns) * 1e-9;
    if (record.track == TraceTrack::kCompute) sums.ops_s += seconds;
    if (record.track != TraceTrack::kWait || record.kind != static_cast<uint8_t>(kind)) continue;
    sums.waits_s += seconds;
    for (const TraceRecord& op : records) {
      if (op.track != TraceTrack::kCompute) continue;
      const int64_t begin_ns = std::max(op.begin_ns, record.begin_ns), end_ns = std::min(op.end_ns, record.end_ns);
      if (begin_ns < end_ns) sums.waits_s -= static_cast<double>(end_ns - begin_ns) * 1e-9;
    }
  }
  return sums;
}

}  // namespace

TEST_CASE("the records of a trace add up to the account's sums, on any device", "[trace][cuda]") {
  Allocator allocator(device_under_test());
  Stream stream(allocator);
  Tracer tracer(stream.queue());
  Lane lane(stream, 0);
  const auto walk = [](Lane& here) -> Task<void> {
    const auto nap = [] { std::this_thread::sleep_for(1ms); };
    for (int i = 0; i < 3; ++i) {
      here.compute().launch({.op = "nap"}, nap, nap);
      co_await here.wire(std::make_shared<SleepsAndSums>(here.compute()), WireKind::kCombine);
      co_await here.wire_in_place(std::make_shared<SleepsAndSums>(here.compute()), WireKind::kRowCounts);
    }
  };
  run_lane(lane, walk(lane));  // in no record
  const TimeSums before = stream.times().sums();
  tracer.start();
  stream.set_trace(&tracer);
  run_lane(lane, walk(lane));
  const TimeSums sums = stream.times().sums() - before;
  const std::vector<TraceRecord> records = tracer.take();
  stream.set_trace(nullptr);
  // A GPU's events have grains, and what sleeps there is the host.
  const double grain_s = stream.queue() == nullptr ? 1e-12 : 1e-4;
  CHECK(sums.ops_s == Approx(sums_of(records, WireKind::kOther).ops_s).margin(grain_s).epsilon(0));
  for (const WireKind kind : {WireKind::kDispatch, WireKind::kCombine, WireKind::kRowCounts}) {
    const double waited_s = sums.waits_s[static_cast<size_t>(kind)];
    CHECK(waited_s == Approx(sums_of(records, kind).waits_s).margin(grain_s).epsilon(0));
    CHECK((waited_s > 0) == (kind != WireKind::kDispatch));
  }
  CHECK(sums.ops_s > 0);
  if (stream.queue() == nullptr) {
    CHECK(sums.ops_s >= 0.009);
    CHECK(sums.waits_s[static_cast<size_t>(WireKind::kCombine)] >= 0.006);
  }
}

TEST_CASE("without a trace a GPU's queue is at ops until it waits, or the host reads", "[trace][cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  Allocator allocator(DeviceKind::kCuda);
  Stream stream(allocator);
  TimeAccount& times = stream.times();
  CHECK(times.sums().ops_s == 0);
  const auto nothing = [] {};
  const auto ops_s_of = [&](const std::function<void()>& between) {
    const double before_s = times.sums().ops_s;
    stream.launch({.op = "a"}, nothing, nothing);
    between();
    std::this_thread::sleep_for(20ms);
    stream.launch({.op = "b"}, nothing, nothing);
    return times.sums().ops_s - before_s;
  };
  // The host is late, and nobody told the account why.
  CHECK(ops_s_of([] {}) >= 0.020);
  CHECK(ops_s_of([&] { stream.wait(); }) < 0.015);
  const Tensor x = stream.workspace({4}, DType::kF32);
  CHECK(ops_s_of([&] { read_to_host<float>(x, stream, [] { return std::vector<float>(4); }); }) < 0.015);
  CHECK(ops_s_of([&] {
          times.begin_wait(WireKind::kCombine, 0);
          times.end_wait();
        }) < 0.015);
  const TimeSums before = times.sums();
  times.begin_wait(WireKind::kCombine, 0);
  times.end_wait();
  const WireSeconds waits_s = (times.sums() - before).waits_s;
  CHECK(waits_s[static_cast<size_t>(WireKind::kCombine)] >= 0);
  CHECK(waits_s[static_cast<size_t>(WireKind::kDispatch)] == 0);
}

TEST_CASE("a GPU transfer that nobody on the host waits for is recorded by its events", "[trace][cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  Allocator allocator(DeviceKind::kCuda);
  Stream stream(allocator);
  CudaEventPool events;
  const CudaQueue wire = create_cuda_queue();
  Tracer tracer(stream.queue());
  tracer.start();
  const int64_t begin_ns = steady_ns();
  WireSpan span{.bytes = 32, .group = 5, .tag = 6};
  span.begin = events.record(wire);
  wait_for_cuda_queue(wire);
  std::this_thread::sleep_for(5ms);
  span.end = events.record(wire);
  make_queue_wait(stream.queue(), span.end.get());
  tracer.wire(WireKind::kWeights, span, 0);
  span = {};
  const std::vector<TraceRecord> records = tracer.take();
  REQUIRE(records.size() == 1);
  CHECK(records[0].track == TraceTrack::kWire);
  CHECK((records[0].bytes == 32 && records[0].group == 5 && records[0].tag == 6));
  CHECK(records[0].end_ns - records[0].begin_ns >= 4'500'000);
  const int64_t grain = tracer.clock_error_ns() + 2000;
  CHECK(records[0].begin_ns >= begin_ns - grain);
  CHECK(records[0].end_ns <= steady_ns() + grain);
  wait_for_cuda_queue(stream.queue());
  destroy_cuda_queue(wire);
}
