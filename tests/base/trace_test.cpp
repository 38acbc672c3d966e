// tests/base/trace_test.cpp: what a trace holds, that no trace costs nothing, and ops that throw.
#include "core/base/trace.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>

#include "core/base/stream.h"
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
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }

using namespace shoal;
using namespace std::chrono_literals;

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
  const int64_t now = trace_now_ns();
  tracer.wait(WireKind::kCombine, now, now + 1000, 0);
  tracer.wire(WireKind::kDispatch, {.posted_ns = now + 10, .completed_ns = now + 30, .bytes = 64, .group = 3, .tag = 8},
              1);
  tracer.wire(WireKind::kDispatch, {}, 1);  // not known when
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
  CHECK(tracer.take().empty());
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
  const int64_t begin = trace_now_ns();
  {
    const TraceSection section(stream.trace(), TraceTrack::kOptimizer, "optimizer");
    stream.launch({.op = "zero"}, zero, zero);
    tracer.queue_wait_begin(WireKind::kGradients, 0);
    tracer.end_queue();
    stream.launch({.op = "zero"}, zero, zero);
  }
  stream.wait();
  const int64_t end = trace_now_ns();
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

TEST_CASE("waits of a queue are summed by kind", "[trace][cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  Allocator allocator(DeviceKind::kCuda);
  Stream stream(allocator);
  QueueWaits waits;
  CHECK(waits.take() == WireSeconds{});
  for (int round = 0; round < 2; ++round) {
    waits.begin(WireKind::kCombine, stream.queue());
    waits.end(stream.queue());
    const WireSeconds seconds = waits.take();
    CHECK(seconds[static_cast<size_t>(WireKind::kCombine)] >= 0);
    CHECK(seconds[static_cast<size_t>(WireKind::kDispatch)] == 0);
    CHECK(waits.take() == WireSeconds{});
  }
}
