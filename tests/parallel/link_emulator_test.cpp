// tests/parallel/link_emulator_test.cpp: times on imagined links, by the formula; refusals.
#include "parallel/link_emulator.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <numeric>

#include "core/base/random.h"
#include "parallel/link_clock.h"
#include "parallel/thread_communicator.h"

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

  links.jitter = 0;
  links.slow_peer = 0;
  Wire one_link(links, {0, 1, 2});
  CHECK(one_link.arrival(0, 2, kMegabyte, 0) == 36 * kMs);
  CHECK(one_link.arrival(2, 0, kMegabyte, 100 * kMs) == 136 * kMs);
  CHECK(one_link.arrival(2, 1, kMegabyte, 200 * kMs) == 212 * kMs);

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
  CHECK_THROWS_WITH(check_emulated_links({.inter_node = speed, .slow_rank = 1, .slow_peer = 2}, {0, 1}),
                    Contains("slow_peer is 2, but there are 2 ranks"));
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
  EmulatedLinks one_link = links;
  one_link.slow_peer = 1;
  CHECK_THAT(describe(one_link), Contains("2 times as long between ranks 3 and 1"));
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

}  // namespace shoal
