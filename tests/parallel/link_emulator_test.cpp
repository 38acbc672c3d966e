// tests/parallel/link_emulator_test.cpp: times on imagined links: by the formula, then for threads and for MPI, where
// nothing may arrive sooner, change its bits, burn the CPU or hang.
#include "parallel/link_emulator.h"

#include <catch2/catch.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>

#include "parallel/link_clock.h"
#include "parallel/mpi_session.h"
#include "parallel/thread_communicator.h"
#include "tests/parallel/communicator_checks.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

constexpr int64_t kMs = 1'000'000;  // ns
constexpr int64_t kMegabyte = 1'000'000;

// 1 MB takes 10 ms between nodes and 1 ms inside one.
EmulatedLinks slow_links() {
  return {.intra_node = LinkSpeed{.bytes_per_s = 1e9, .latency_s = 0.0005},
          .inter_node = LinkSpeed{.bytes_per_s = 1e8, .latency_s = 0.002}};
}
// So fast that thousands of messages take no time to speak of, and no two take the same.
EmulatedLinks fast_links() {
  return {.intra_node = LinkSpeed{.bytes_per_s = 2e10, .latency_s = 3e-6},
          .inter_node = LinkSpeed{.bytes_per_s = 5e9, .latency_s = 2e-5},
          .jitter = 3,
          .slow_rank = 0,
          .slow_factor = 4};
}

// A world whose messages are sent by hand.
class Wire {
 public:
  Wire(const EmulatedLinks& links, std::vector<int> nodes) : emulator_(links, std::move(nodes)) {}

  // When it has left, and arrived.
  std::pair<int64_t, int64_t> send(int from, int to, int64_t bytes, int64_t posted_ns) {
    const LinkEmulator::Key key{7, tag_++, from, to};
    const int64_t sent_ns = emulator_.send(key, bytes, posted_ns);
    return {sent_ns, emulator_.receive(key)};
  }
  int64_t arrival(int from, int to, int64_t bytes, int64_t posted_ns) {
    return send(from, to, bytes, posted_ns).second;
  }

 private:
  LinkEmulator emulator_;
  int64_t tag_ = 0;
};

// When the last of an all-to-all of `bytes` a pair arrives; rank r posts its messages at r * skew.
int64_t all_to_all(Wire wire, int ranks, int64_t bytes, int64_t skew_ns) {
  int64_t last = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    for (int step = 1; step < ranks; ++step) {
      last = std::max(last, wire.arrival(rank, (rank + step) % ranks, bytes, rank * skew_ns));
    }
  }
  return last;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}
double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

Tensor bytes_of_zeros(int64_t bytes) { return tensor_of(std::vector<float>(static_cast<size_t>(bytes / 4))); }

// Rank 0's megabytes to all others of its two-rank group, or of the world: no sooner than links allow, nor for the
// sender, who has its buffer back when all of it has left.
void check_broadcast_takes(Communicator& world, int64_t bytes, double seconds, double seconds_to_send) {
  wait(world.barrier());
  const Tensor x = tensor_of(values_of<float>(world.rank(), bytes / 4, "sent"));
  wait(world.barrier());
  const auto begin = std::chrono::steady_clock::now();
  const OperationPtr operation = world.broadcast(x, 0);
  wait(operation);
  // The others may have begun before rank 0 did, never after its message had arrived.
  const double taken = seconds_since(begin);
  RANK_CHECK(world.rank() != 0 || taken >= seconds_to_send);
  RANK_CHECK(same_bits(x.to_vector<float>(), values_of<float>(0, bytes / 4, "sent")));
  // Posted by rank 0, arrived at the last rank: on one clock.
  const WireSpan span = operation->span();
  RANK_CHECK(span.posted_ns > 0 && span.completed_ns >= span.posted_ns);
  const Tensor times = Tensor::zeros({2 * world.size()}, DType::kI64, cpu(), MemoryKind::kWorkspace);
  const Tensor own = times.rows(2 * world.rank(), 2);
  own.copy_from<int64_t>({span.posted_ns, span.completed_ns});
  wait(world.all_gather(times, own));
  int64_t last = 0;
  for (int rank = 1; rank < world.size(); ++rank) last = std::max(last, times.data<int64_t>()[2 * rank + 1]);
  if (world.size() > 1) RANK_CHECK(static_cast<double>(last - times.data<int64_t>()[0]) * 1e-9 >= seconds);
}

// An all-reduce that takes a second and a half, of which nobody computes.
void check_burns_no_cpu(Communicator& world) {
  if (world.size() == 1) return;
  const Tensor x = bytes_of_zeros(8000);  // to each other rank
  wait(world.barrier());
  const double before = cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  wait(world.all_reduce(x));
  RANK_CHECK(seconds_since(begin) >= 0.8);
  RANK_CHECK(cpu_seconds() - before < 0.2);
}
EmulatedLinks crawling_links() {
  const LinkSpeed crawling{.bytes_per_s = 1e4, .latency_s = 0};
  return {.intra_node = crawling, .inter_node = crawling};
}

// Spans name the operation alike on all ranks.
void check_spans(Communicator& world) {
  const auto half = world.group({world.rank()});
  const auto copy = world.group(all_ranks(world));
  const Tensor x = tensor_of(std::vector<float>(9000));
  const OperationPtr first = world.all_reduce(x);
  first->wait();
  const OperationPtr second = world.all_gather(tensor_of(std::vector<float>(30 * static_cast<size_t>(world.size()))),
                                               tensor_of(std::vector<float>(30)));
  second->wait();
  const OperationPtr other = copy->barrier();
  other->wait();
  const WireSpan a = first->span(), b = second->span(), c = other->span();
  RANK_CHECK(a.group == b.group && a.tag != b.tag);
  RANK_CHECK(world.size() == 1 || a.group != c.group);
  RANK_CHECK(a.posted_ns <= a.completed_ns && a.completed_ns <= b.posted_ns);
  RANK_CHECK(b.bytes == 120 * (world.size() - 1) && c.bytes == 0);
  RANK_CHECK(world.size() == 1 || half->id() != copy->id());
  const Tensor names = Tensor::zeros({3 * world.size()}, DType::kI64, cpu(), MemoryKind::kWorkspace);
  const Tensor own = names.rows(3 * world.rank(), 3);
  own.copy_from<int64_t>({static_cast<int64_t>(a.group), a.tag, static_cast<int64_t>(c.group)});
  wait(world.all_gather(names, own));
  for (int64_t i = 0; i < names.numel(); ++i) RANK_CHECK(names.data<int64_t>()[i] == own.data<int64_t>()[i % 3]);
}

}  // namespace

TEST_CASE("a message takes latency and bytes / bandwidth, and its link is free when it has left") {
  Wire wire(slow_links(), {0, 1});
  const auto [sent, done] = wire.send(0, 1, kMegabyte, 5 * kMs);
  CHECK(sent == 15 * kMs);
  CHECK(done == 17 * kMs);
  CHECK(wire.arrival(0, 1, kMegabyte, 15 * kMs) == 27 * kMs);  // behind it
  CHECK(wire.arrival(0, 1, kMegabyte, 0) == 32 * kMs);  // 0 to 5 ms, which nobody used, and then behind the others
  CHECK(wire.arrival(0, 1, 0, 16 * kMs) == 32 * kMs);   // a barrier's: behind them too
  CHECK(wire.arrival(0, 1, kMegabyte, 100 * kMs) == 112 * kMs);
}

TEST_CASE("messages queue in order of posting; the other way is free") {
  Wire wire(slow_links(), {0, 1});
  for (int i = 1; i <= 5; ++i) CHECK(wire.arrival(0, 1, kMegabyte, i * 1000) == 1000 + (10 * i + 2) * kMs);
  CHECK(wire.arrival(1, 0, kMegabyte, 1000) == 1000 + 12 * kMs);
}

TEST_CASE("ranks of a node share its uplink and its downlink, but not what is inside") {
  Wire wire(slow_links(), {4, 4, 9, 9});
  CHECK(wire.arrival(0, 2, kMegabyte, 0) == 12 * kMs);
  CHECK(wire.arrival(1, 3, kMegabyte, 0) == 22 * kMs);
  CHECK(wire.arrival(2, 0, kMegabyte, 0) == 12 * kMs);
  CHECK(wire.arrival(0, 1, kMegabyte, 0) == kMs + kMs / 2);
  CHECK(wire.arrival(1, 0, kMegabyte, 0) == kMs + kMs / 2);
  CHECK(wire.arrival(3, 2, kMegabyte, 0) == kMs + kMs / 2);
  CHECK(wire.arrival(0, 1, kMegabyte, 0) == 2 * kMs + kMs / 2);

  Wire downlink(slow_links(), {0, 1, 2});
  CHECK(downlink.arrival(0, 2, kMegabyte, 0) == 12 * kMs);
  CHECK(downlink.arrival(1, 2, kMegabyte, 0) == 22 * kMs);
}

TEST_CASE("what waits for its receiver leaves the link to what is behind it") {
  Wire wire(slow_links(), {0, 1, 2});
  CHECK(wire.arrival(1, 2, kMegabyte, 0) == 12 * kMs);
  CHECK(wire.arrival(0, 2, kMegabyte, 0) == 22 * kMs);        // 2's downlink is busy
  CHECK(wire.arrival(0, 1, kMegabyte, 0) == 12 * kMs);        // meanwhile
  CHECK(wire.arrival(0, 1, kMegabyte, 5 * kMs) == 32 * kMs);  // behind both
}

TEST_CASE("an all-to-all takes as long as the bytes of one rank") {
  EmulatedLinks links = slow_links();
  links.inter_node->latency_s = 0;
  for (const int ranks : {2, 3, 4, 8}) {
    std::vector<int> nodes(static_cast<size_t>(ranks));
    std::iota(nodes.begin(), nodes.end(), 0);
    CHECK(all_to_all(Wire(links, nodes), ranks, kMegabyte, 0) == (ranks - 1) * 10 * kMs);
    const int64_t skew = kMs / 10;
    const int64_t taken = all_to_all(Wire(links, nodes), ranks, kMegabyte, skew);
    CHECK(taken >= (ranks - 1) * 10 * kMs);
    CHECK(taken <= (ranks - 1) * (10 * kMs + 2 * ranks * skew));
  }
}

TEST_CASE("a link never carries more than its bandwidth, and no message is sooner than alone") {
  const CounterRandom random(11, stream_of("messages"));
  LinkClock up, down, other;
  int64_t total = 0, last = 0, now = 0;
  for (uint64_t i = 0; i < 5000; ++i) {
    now += static_cast<int64_t>(random.below(100, 3 * i));
    const auto duration = static_cast<int64_t>(random.below(100, 3 * i + 1));
    const bool to_other = random.below(2, 3 * i + 2) == 0;
    const LinkClock::Span span = LinkClock::reserve(up, to_other ? other : down, now, duration);
    REQUIRE(span.begin >= now);
    REQUIRE(span.end - span.begin >= duration);
    total += duration;
    last = std::max(last, span.end);
    REQUIRE(last >= total);
  }
  CHECK(last <= now + 2 * total);
}

TEST_CASE("jitter stretches each transfer anew, a slow rank all of its own, endless links only delay") {
  EmulatedLinks links = slow_links();
  links.jitter = 0.5;
  links.slow_rank = 2;
  links.slow_factor = 3;
  int64_t least = INT64_MAX, most = 0;
  Wire wire(links, {0, 1, 2});
  for (int i = 0; i < 200; ++i) {
    const int64_t begin = (1 + i) * 1000 * kMs;
    const int64_t taken = wire.arrival(0, 1, kMegabyte, begin) - begin;
    least = std::min(least, taken);
    most = std::max(most, taken);
    for (const auto& [from, to] : {std::pair{0, 2}, {2, 1}}) {
      const int64_t slow = wire.arrival(from, to, kMegabyte, begin + 300 * kMs) - begin - 300 * kMs;
      REQUIRE(slow >= 36 * kMs);
      REQUIRE(slow <= 54 * kMs + 1000);
    }
  }
  CHECK(least >= 12 * kMs);
  CHECK(least < 13 * kMs);
  CHECK(most > 17 * kMs);
  CHECK(most <= 18 * kMs + 1000);

  Wire endless({.inter_node = LinkSpeed{.bytes_per_s = 0, .latency_s = 0.001}}, {0, 1});
  for (int i = 0; i < 3; ++i) CHECK(endless.arrival(0, 1, 100 * kMegabyte, 7) == 7 + kMs);
}

TEST_CASE("links that are used and not described, and a slow rank that is none, are refused") {
  const LinkSpeed speed{.bytes_per_s = 1e9, .latency_s = 0};
  const EmulatedLinks inter{.inter_node = speed}, intra{.intra_node = speed};
  CHECK_THROWS_WITH(check_emulated_links(inter, {0, 0, 1}),
                    Contains("describes no intra_node link, but the 3 ranks are on 2 node(s), several on one"));
  CHECK_THROWS_WITH(check_emulated_links(intra, {0, 0, 1}),
                    Contains("describes no inter_node link, but the 3 ranks are on 2 nodes"));
  CHECK_NOTHROW(check_emulated_links(inter, {0, 1, 2}));
  CHECK_NOTHROW(check_emulated_links(intra, {5, 5}));
  CHECK_NOTHROW(check_emulated_links({}, {5}));
  CHECK_THROWS_WITH(check_emulated_links({.inter_node = speed, .slow_rank = 2}, {0, 1}),
                    Contains("slow_rank is 2, but there are 2 ranks"));
  CHECK_THROWS_WITH(run_thread_ranks(2, {.emulate = inter}, [](Communicator&, Allocator&) {}),
                    Contains("describes no intra_node link"));
}

TEST_CASE("a description in a config, and in words") {
  EmulateConfig config;
  config.mutable_inter_node()->set_gbit_per_s(10);
  config.mutable_inter_node()->set_latency_us(30);
  config.set_jitter(0.25);
  config.set_slow_rank(3);
  config.set_slow_factor(2);
  const EmulatedLinks links = emulated_links(config);
  CHECK_FALSE(links.intra_node);
  CHECK(links.inter_node->bytes_per_s == Approx(1.25e9));
  CHECK(describe(links) ==
        "10 Gbit/s and 30 µs between nodes, up to 25 % longer at random, 2 times as long from and to rank 3");
}

TEST_CASE("a message that was never sent is not found; one is found once") {
  LinkEmulator emulator(slow_links(), {0, 1});
  const LinkEmulator::Key key{3, 5, 0, 1};
  emulator.send(key, 10, 0);
  CHECK_THROWS_WITH(emulator.receive({3, 5, 1, 0}), Contains("never on its emulated link"));
  CHECK_NOTHROW(emulator.receive(key));
  CHECK_THROWS_WITH(emulator.receive(key), Contains("never on its emulated link"));
  // Places are used again.
  for (int64_t tag = 0; tag < 200'000; ++tag) {
    emulator.send({3, tag, 0, 1}, 10, 0);
    if (tag >= 1000) emulator.receive({3, tag - 1000, 0, 1});
  }
}

TEST_CASE("every verb over threads on emulated links", "[threads]") {
  for (const int size : {1, 2, 3, 4}) {
    check_every_verb(
        [size](const Check& check) {
          run_thread_ranks(size, {.ranks_per_node = 2, .emulate = fast_links()},
                           [&](Communicator& world, Allocator&) { check(world); });
        },
        fmt::format(", {} ranks", size));
  }
  check_every_verb(
      [](const Check& check) {
        run_thread_ranks(5, {.ranks_per_node = 2, .max_message_bytes = 1001, .emulate = fast_links()},
                         [&](Communicator& world, Allocator&) { check_in_halves(world, check); });
      },
      ", in halves");
}

TEST_CASE("over threads no message is sooner than its link allows, and nobody computes meanwhile", "[threads]") {
  // Between two nodes of one rank, inside one, and two ranks behind one uplink.
  run_thread_ranks(2, {.ranks_per_node = 1, .emulate = slow_links()},
                   [](Communicator& world, Allocator&) { check_broadcast_takes(world, 2 * kMegabyte, 0.022, 0.020); });
  run_thread_ranks(2, {.emulate = slow_links()},
                   [](Communicator& world, Allocator&) { check_broadcast_takes(world, 3 * kMegabyte, 0.0035, 0.003); });
  run_thread_ranks(4, {.ranks_per_node = 2, .emulate = slow_links()},
                   [](Communicator& world, Allocator&) { check_broadcast_takes(world, kMegabyte, 0.022, 0.020); });
  run_thread_ranks(2, {.emulate = crawling_links()},
                   [](Communicator& world, Allocator&) { check_burns_no_cpu(world); });
}

TEST_CASE("groups of a world queue on the same links", "[threads]") {
  run_thread_ranks(2, {.ranks_per_node = 1, .emulate = slow_links()}, [](Communicator& world, Allocator&) {
    const auto copy = world.group({0, 1});
    wait(world.barrier());
    const OperationPtr first = world.broadcast(bytes_of_zeros(2 * kMegabyte), 0);
    const OperationPtr second = copy->broadcast(bytes_of_zeros(4), 0);
    second->wait();  // behind the megabytes
    RANK_CHECK(world.rank() == 0 || first->done());
    first->wait();
  });
}

TEST_CASE("operations have spans over threads", "[threads]") {
  run_thread_ranks(3, {}, [](Communicator& world, Allocator&) { check_spans(world); });
  run_thread_ranks(3, {.emulate = fast_links()}, [](Communicator& world, Allocator&) { check_spans(world); });
}

TEST_CASE("threads that leave on emulated links leave their operations to the timer", "[threads]") {
  for (int late = 0; late < 3; ++late) {
    run_thread_ranks(3, {.ranks_per_node = 1, .emulate = slow_links()}, [&](Communicator& world, Allocator& memory) {
      const MemoryOfChecks of_checks(memory);
      const Tensor x = tensor_of(values_of<float>(world.rank(), 20011, "all"));
      const OperationPtr kept = world.all_reduce(x);
      for (int i = 0; i < 5; ++i) world.broadcast(tensor_of(std::vector<float>(30000)), 0);
      if (world.rank() != late) return;
      wait(kept);
      RANK_CHECK(same_bits(x.to_vector<float>(), sum_of_ranks<float>(world.size(), 0, 20011, "all")));
    });
  }
}

TEST_CASE("a thread that fails while messages are on their way for minutes ends all of them now", "[threads]") {
  const auto begin = std::chrono::steady_clock::now();
  const auto body = [&](Communicator& world, Allocator& memory) {
    const MemoryOfChecks of_checks(memory);
    const OperationPtr slow = world.all_reduce(bytes_of_zeros(4 * kMegabyte));
    const OperationPtr behind = world.barrier();
    if (world.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      fail("token 9 is beyond the vocabulary");
    }
    RANK_CHECK(error_of([&] { behind->wait(); }) == "rank 1 failed: token 9 is beyond the vocabulary");
    slow->wait();
  };
  REQUIRE_THROWS_WITH(run_thread_ranks(3, {.emulate = crawling_links()}, body),
                      Catch::Equals("token 9 is beyond the vocabulary"));
  CHECK(seconds_since(begin) < 60);  // the links would take 14 minutes
}

TEST_CASE("every verb over MPI on emulated links", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    const auto world = session.world(cpu(), {.ranks_per_node = 2, .max_message_bytes = 1001, .emulate = fast_links()});
    check_in_halves(*world, check);
    check(*world);
  });
}

TEST_CASE("over MPI no message is sooner than its link allows, and nobody computes meanwhile", "[mpi]") {
  MpiSession session;
  const double others = session.size() - 1;
  check_broadcast_takes(*session.world(cpu(), {.ranks_per_node = 1, .emulate = slow_links()}), 2 * kMegabyte,
                        0.020 * others + 0.002, 0.020 * others);
  check_broadcast_takes(*session.world(cpu(), {.emulate = slow_links()}), 3 * kMegabyte, 0.003 * others + 0.0005,
                        0.003 * others);
  check_burns_no_cpu(*session.world(cpu(), {.emulate = crawling_links()}));
}

TEST_CASE("operations have spans over MPI, with links as they are and emulated", "[mpi]") {
  MpiSession session;
  check_spans(*session.world(cpu()));
  check_spans(*session.world(cpu(), {.emulate = fast_links()}));
}

TEST_CASE("operations nobody waited for on emulated links are completed before the session ends", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu(), {.ranks_per_node = 1, .emulate = slow_links()});
  for (int i = 0; i < 5; ++i) world->broadcast(bytes_of_zeros(kMegabyte), 0);
  world->barrier();
}

TEST_CASE("a world that emulates links it does not describe is refused on every rank", "[mpi]") {
  MpiSession session;
  const EmulatedLinks nothing;
  if (session.size() == 1) return;
  CHECK_THROWS_WITH(session.world(cpu(), {.emulate = nothing}), Contains("describes no intra_node link"));
  CHECK_THROWS_WITH(session.world(cpu(), {.ranks_per_node = 1, .emulate = nothing}),
                    Contains("describes no inter_node link"));
}

}  // namespace shoal
