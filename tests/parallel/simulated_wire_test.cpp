// tests/parallel/simulated_wire_test.cpp: transfers on paper, against times computed by hand.
#include "parallel/simulated_wire.h"

#include <catch2/catch.hpp>

#include <algorithm>

#include "core/base/lane.h"
#include "parallel/simulated_communicator.h"

namespace shoal {

namespace {

// 1 KiB a second in the node, a quarter of a second late; between nodes 512 B a second, half a second late.
constexpr LinkModel kLinks{.intra_node = {.bytes_per_s = 1024, .latency_s = 0.25},
                           .inter_node = {.bytes_per_s = 512, .latency_s = 0.5}};

struct Paper {
  explicit Paper(std::vector<int> nodes = {0, 0}, int rank = 0, SimulatedClock::OpSeconds op_seconds = nullptr)
      : clock(std::move(op_seconds)),
        wire(std::make_shared<SimulatedWire>(kLinks, static_cast<int>(std::ranges::count(nodes, nodes[0])), clock)),
        world(rank, nodes, allocator, wire),
        stream(allocator) {
    stream.set_clock(&clock);
  }

  Tensor bytes(int64_t count) { return Tensor::empty({count}, DType::kU8, allocator, MemoryKind::kActivations); }
  Tensor kib_f32(int64_t kib) { return Tensor::empty({kib * 256}, DType::kF32, allocator, MemoryKind::kActivations); }
  // Every rank sends every other `count` bytes.
  OperationPtr send(int64_t count) { return world.all_gather(bytes(count * world.size()), bytes(count)); }

  Allocator allocator{DeviceKind::kSimulated};
  SimulatedClock clock;
  std::shared_ptr<SimulatedWire> wire;
  SimulatedCommunicator world;
  Stream stream;
};

// When it completes, seen from now on.
double wait_s(Paper& paper, const OperationPtr& operation) {
  operation->wait();
  REQUIRE(operation->done());
  return paper.clock.now_s();
}

Work seconds_of_work(double seconds) { return {.op = "test.op", .executed_flops = seconds}; }
double seconds_stated(const Work& work) { return work.executed_flops; }
double exposed_s(Stream& stream, WireKind kind) { return stream.times().sums().waits_s[static_cast<size_t>(kind)]; }

}  // namespace

TEST_CASE("a message takes its bytes and the latency, and nobody is through before") {
  Paper paper;
  const OperationPtr sent = paper.send(1024);
  REQUIRE(!sent->done());
  REQUIRE(paper.clock.now_s() == 0);
  paper.clock.wait_until(1.125);
  REQUIRE(!sent->done());
  REQUIRE(wait_s(paper, sent) == 1.25);
  REQUIRE(paper.clock.waited_s() == 1.25);
  REQUIRE(paper.wire->busy_s(LinkClass::kIntraNode) == 1);
  REQUIRE(paper.wire->busy_s(LinkClass::kInterNode) == 0);
  const WireSpan span = sent->span();
  REQUIRE(span.posted_ns == 0);
  REQUIRE(span.completed_ns == 1'250'000'000);
  REQUIRE(span.bytes == 1024);
}

TEST_CASE("messages of a link follow each other; latencies do not add, idle links do not save") {
  Paper paper;
  const OperationPtr first = paper.send(1024);
  const OperationPtr second = paper.send(512);
  REQUIRE(wait_s(paper, second) == 1.75);
  REQUIRE(first->done());
  paper.clock.wait_until(5);
  REQUIRE(wait_s(paper, paper.send(1024)) == 6.25);
  // Nothing to send is through at once, though the link is busy.
  paper.send(1024);
  REQUIRE(paper.send(0)->done());
}

TEST_CASE("links carry both ways at once") {
  Paper paper;
  // Rank 0 sends two rows of 512 bytes and gets two.
  const auto rows = [&] { return Tensor::empty({2, 512}, DType::kU8, paper.allocator, MemoryKind::kActivations); };
  REQUIRE(wait_s(paper, paper.world.all_to_all_rows(rows(), {0, 2}, rows(), {0, 2})) == 1.25);
  // The root has nothing to wait for. Its uplink is busy until 2.25, and so are the others' downlinks.
  const OperationPtr from_here = paper.world.broadcast(paper.bytes(1024), 0);
  REQUIRE(from_here->done());
  REQUIRE(wait_s(paper, paper.world.broadcast(paper.bytes(1024), 1)) == 1.25 + 1 + 1 + 0.25);
}

TEST_CASE("the ranks of a node share its links, and each has its own in the node") {
  // Rank 1 of two nodes of two sends 128 bytes each to 2 and 3, then to 0; so does rank 0.
  Paper paper({0, 0, 1, 1}, 1);
  const OperationPtr sent = paper.send(128);
  REQUIRE(wait_s(paper, sent) == 2 * 2 * 128 / 512.0 + 0.5);
  REQUIRE(paper.wire->busy_s(LinkClass::kInterNode) == 1);
  REQUIRE(paper.wire->busy_s(LinkClass::kIntraNode) == 0.125);

  // A group shares the world's links: its transfer goes behind the world's, and only in the node.
  const auto in_node = paper.world.group({0, 1});
  const auto across = paper.world.group({1, 3});
  paper.send(128);
  const OperationPtr near = in_node->all_gather(paper.bytes(2 * 1024), paper.bytes(1024));
  const OperationPtr far = across->all_gather(paper.bytes(2 * 128), paper.bytes(128));
  REQUIRE(wait_s(paper, near) == 1.5 + 0.125 + 1 + 0.25);
  REQUIRE(wait_s(paper, far) == 1.5 + 1 + 0.5 + 0.5);
}

TEST_CASE("an all-reduce takes one round when it is small and two when it is not") {
  Paper paper;
  REQUIRE(wait_s(paper, paper.world.all_reduce(paper.kib_f32(2))) == 2.25);
  // 32 KiB: halves to their owners, then sums to the others.
  REQUIRE(wait_s(paper, paper.world.all_reduce(paper.kib_f32(32))) == 2.25 + 16.25 + 16.25);
  REQUIRE(paper.wire->busy_s(LinkClass::kIntraNode) == 2 + 16 + 16);
}

TEST_CASE("what is posted before an all-reduce's second round goes before it, what comes later behind") {
  Paper paper;
  const OperationPtr reduced = paper.world.all_reduce(paper.kib_f32(32));  // first round until 16, there at 16.25
  const OperationPtr early = paper.send(4096);                             // link free at 20
  paper.clock.wait_until(17);                                              // the second round took 20 to 36
  const OperationPtr late = paper.send(1024);
  REQUIRE(!reduced->done());
  REQUIRE(!early->done());
  REQUIRE(wait_s(paper, early) == 20.25);
  REQUIRE(wait_s(paper, reduced) == 36.25);
  REQUIRE(wait_s(paper, late) == 37.25);

  // The same when somebody waits: the second round is played while the rank sleeps.
  Paper other;
  const OperationPtr waited_for = other.world.all_reduce(other.kib_f32(32));
  other.send(4096);
  REQUIRE(wait_s(other, waited_for) == 36.25);
}

TEST_CASE("buffers are held while they travel") {
  Paper paper;
  const OperationPtr sent = paper.send(1024);
  REQUIRE(!sent->done());
  REQUIRE(paper.allocator.use().total_now_bytes == 3 * 1024);
  sent->wait();
  REQUIRE(paper.allocator.use().total_now_bytes == 0);
}

TEST_CASE("a transfer hides behind computation, and what does not is exposed") {
  Paper paper({0, 0}, 0, seconds_stated);
  Lane lane(paper.stream, 0);
  const auto step = [](Paper& on, Lane& here, double compute_s) -> Task<void> {
    OperationPtr sent = on.send(1024);
    on.stream.launch(seconds_of_work(compute_s), [] {});
    co_await here.wire(std::move(sent), WireKind::kDispatch);
    on.stream.launch(seconds_of_work(0.5), [] {});
  };
  run_lane(lane, step(paper, lane, 1));
  REQUIRE(paper.clock.now_s() == 1.75);
  REQUIRE(exposed_s(paper.stream, WireKind::kDispatch) == 0.25);
  run_lane(lane, step(paper, lane, 3));
  REQUIRE(paper.clock.now_s() == 1.75 + 3.5);
  REQUIRE(exposed_s(paper.stream, WireKind::kDispatch) == 0.25);
  REQUIRE(paper.clock.ops_s() == 5);
  REQUIRE(paper.clock.waited_s() == 0.25);
  REQUIRE(paper.stream.work().at("test.op").seconds == 5);
}

TEST_CASE("one lane computes while the other's transfer travels") {
  Paper paper({0, 0}, 0, seconds_stated);
  Lane a(paper.stream, 0), b(paper.stream, 1);
  const auto walk = [](Paper& on, WireKind kind, Lane& here) -> Task<void> {
    for (int i = 0; i < 2; ++i) {
      on.stream.launch(seconds_of_work(1), [] {});
      OperationPtr sent = on.send(1024);
      co_await here.wire(std::move(sent), kind);
    }
  };
  Lane* const lanes[] = {&a, &b};
  std::vector<Task<void>> tasks;
  tasks.push_back(walk(paper, WireKind::kDispatch, a));
  tasks.push_back(walk(paper, WireKind::kCombine, b));
  run_lanes(lanes, std::move(tasks));
  // a 0-1, sent 1-2.25; b 1-2, sent 2-3.25; a waits 0.25, 2.25-3.25, sent until 4.5; b 3.25-4.25, sent until 5.5,
  // which it waits for, when a has waited until 4.5.
  REQUIRE(paper.clock.now_s() == 5.5);
  REQUIRE(paper.clock.ops_s() == 4);
  REQUIRE(exposed_s(paper.stream, WireKind::kDispatch) == 0.5);
  REQUIRE(exposed_s(paper.stream, WireKind::kCombine) == 1);
}

TEST_CASE("what the host does between ops counts with every op") {
  SimulatedClock clock(seconds_stated, 0.125);
  clock.run(seconds_of_work(1));
  clock.run(seconds_of_work(2));
  REQUIRE(clock.now_s() == 3.25);
  REQUIRE(clock.ops_s() == 3);
  REQUIRE(clock.host_s() == 0.25);
  clock.wait_until(2);
  REQUIRE(clock.now_s() == 3.25);
}

}  // namespace shoal
