// tests/train/slow_links_test.cpp: a slow link is named, by its ends or by the rank whose it is; a slow rank, a network
// of two tiers and chance are not taken for one.
#include "core/train/slow_links.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <set>
#include <thread>

#include "parallel/thread_communicator.h"
#include "tests/rank_check.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

constexpr auto kIntra = LinkClass::kIntraNode, kInter = LinkClass::kInterNode;

// Every rank to every other, each on its own node.
std::vector<LinkTime> all_links(int ranks, const std::function<double(int from, int to)>& seconds) {
  std::vector<LinkTime> links;
  for (int from = 0; from < ranks; ++from) {
    for (int to = 0; to < ranks; ++to) {
      if (from != to) links.push_back({.from = from, .to = to, .link = kInter, .seconds = seconds(from, to)});
    }
  }
  return links;
}

std::set<std::pair<int, int>> ends_of(const std::vector<LinkTime>& links) {
  std::set<std::pair<int, int>> ends;
  for (const SlowLink& slow : find_slow_links(links)) ends.emplace(slow.from, slow.to);
  return ends;
}
using Ends = std::set<std::pair<int, int>>;

// A step that waits for the wire for a fifth of its time.
LinkWatch::Step waiting_step(int64_t number) {
  return {.number = number, .step_s = 0.5, .waits_s = 0.1, .bytes = {0, 0, 64 << 20}};
}

LinkTimes probe_of(const std::vector<LinkTime>& links) {
  return {.message_bytes = {0, 0, 1 << 20}, .links = links, .took_s = 0.02};
}

// What four ranks of such links are told when their steps wait for the wire; `late`: what a rank does before each step.
std::string told_on(const EmulatedLinks& links, int ranks, int ranks_per_node,
                    const std::function<void(int rank)>& late = {}) {
  std::string told;
  run_thread_ranks(
      ranks, {.ranks_per_node = ranks_per_node, .emulate = links}, [&](Communicator& world, Allocator& allocator) {
        Stream stream(allocator);
        LinkWatch watch;
        std::string text;
        int probes = 0;
        for (int64_t step = 1; step <= 20; ++step) {
          if (late) late(world.rank());
          const auto bytes = watch.add(
              {.number = step, .step_s = 0.5, .waits_s = 0.1, .bytes = {0, ranks_per_node > 1 ? 4 << 20 : 0, 4 << 20}});
          if (!bytes) continue;
          ++probes;
          text += watch.found(step, probe_links(world, stream, *bytes));
        }
        RANK_CHECK(probes == 1 || probes == 3);
        if (world.rank() == 0) told = text;
      });
  return told;
}

EmulatedLinks emulated(int slow_rank = -1, int slow_peer = -1, double factor = 6) {
  // A message takes 25 ms, so that a busy machine's delays do not decide.
  const LinkSpeed speed{.bytes_per_s = 2.6e6, .latency_s = 3e-5};
  return {.intra_node = speed,
          .inter_node = speed,
          .jitter = 0.3,
          .slow_rank = slow_rank,
          .slow_factor = slow_rank < 0 ? 1 : factor,
          .slow_peer = slow_peer};
}

}  // namespace

TEST_CASE("a rank all of whose links are slow is named, one way or both") {
  for (const int ranks : {3, 4, 8}) {
    CHECK(ends_of(all_links(ranks, [](int from, int to) { return from == 2 || to == 2 ? 0.004 : 0.001; })) ==
          Ends{{2, -1}, {-1, 2}});
    CHECK(ends_of(all_links(ranks, [](int from, int) { return from == 1 ? 0.003 : 0.001; })) == Ends{{1, -1}});
    CHECK(ends_of(all_links(ranks, [](int, int to) { return to == 0 ? 0.003 : 0.001; })) == Ends{{-1, 0}});
  }
}

TEST_CASE("one slow link among fast ones is named by its ends") {
  for (const int ranks : {3, 4, 8}) {
    CHECK(ends_of(all_links(ranks, [](int from, int to) { return from + to == 1 ? 0.004 : 0.001; })) ==
          Ends{{0, 1}, {1, 0}});
    CHECK(ends_of(all_links(ranks, [](int from, int to) { return from == 2 && to == 1 ? 0.004 : 0.001; })) ==
          Ends{{2, 1}});
  }
  // Of two ranks one way is compared with the other; like-placed ranks of two nodes with each other.
  CHECK(ends_of(all_links(2, [](int from, int) { return from == 0 ? 0.004 : 0.001; })) == Ends{{0, 1}});
  std::vector<LinkTime> pairs;
  for (const auto& [from, to] : {std::pair{0, 3}, {3, 0}, {1, 4}, {4, 1}, {2, 5}, {5, 2}}) {
    pairs.push_back({.from = from, .to = to, .link = kInter, .seconds = from + to == 5 ? 0.005 : 0.001});
  }
  CHECK(ends_of(pairs) == Ends{{1, 4}, {4, 1}});
}

TEST_CASE("a network of two tiers, links a little apart, and a single link accuse nobody") {
  for (const int ranks : {4, 8, 16}) {
    CHECK(ends_of(all_links(ranks, [](int from, int to) { return from / 2 == to / 2 ? 0.001 : 0.005; })).empty());
    CHECK(ends_of(all_links(ranks, [=](int from, int to) {
            return (from < ranks / 2) == (to < ranks / 2) ? 0.001 : 0.005;
          })).empty());
    CHECK(ends_of(all_links(ranks, [](int from, int to) { return 0.001 + 0.0001 * ((from + 3 * to) % 9); })).empty());
  }
  CHECK(ends_of(all_links(2, [](int, int) { return 0.9; })).empty());
  CHECK(ends_of({}).empty());
  // Links inside a node are no measure of those between nodes.
  std::vector<LinkTime> links = all_links(3, [](int, int) { return 0.004; });
  for (LinkTime time : all_links(3, [](int, int) { return 0.001; })) {
    time.link = kIntra;
    links.push_back(time);
  }
  CHECK(ends_of(links).empty());
}

TEST_CASE("links are probed where ranks wait for the wire, three times where one looks slow, then not for long") {
  LinkWatch watch;
  const std::vector<LinkTime> slow = all_links(4, [](int from, int to) { return from + to == 1 ? 0.03 : 0.01; });
  int64_t step = 0;
  for (int i = 0; i < 9; ++i) CHECK_FALSE(watch.add(waiting_step(++step)));
  const auto bytes = watch.add(waiting_step(++step));
  REQUIRE(bytes);
  CHECK(*bytes == std::array<int64_t, kNumLinkClasses>{0, 0, 1 << 20});
  for (int confirming = 0; confirming < 2; ++confirming) {
    CHECK(watch.found(step, probe_of(slow)).empty());
    for (int i = 0; i < 4; ++i) CHECK_FALSE(watch.add(waiting_step(++step)));
    CHECK(watch.add(waiting_step(++step)) == bytes);
  }
  // 64 messages in a step, a third of them to that rank, 20 ms longer each.
  CHECK(
      watch.found(step, probe_of(slow)) ==
      "the link between nodes between ranks 0 and 1 is slow: 1.0 MiB take 30 ms (0.28 Gbit/s), 3.0 times as long as on "
      "the links of others; that is up to 427 ms of a step");
  for (int i = 0; i < 199; ++i) CHECK_FALSE(watch.add(waiting_step(++step)));
  CHECK(watch.add(waiting_step(++step)));
}

TEST_CASE("what is slow once is not named, nor what costs a step next to nothing") {
  const std::vector<LinkTime> even = all_links(4, [](int, int) { return 0.01; });
  const std::vector<LinkTime> slow = all_links(4, [](int from, int to) { return from + to == 1 ? 0.03 : 0.01; });
  const std::vector<LinkTime> other = all_links(4, [](int from, int to) { return from + to == 4 ? 0.03 : 0.01; });
  const std::vector<LinkTime> quick = all_links(4, [](int from, int to) { return from + to == 1 ? 5e-5 : 1e-5; });
  for (const auto& probes :
       {std::vector{even, even, even}, {slow, slow, even}, {slow, other, slow}, {quick, quick, quick}}) {
    LinkWatch watch;
    int64_t step = 0;
    for (int i = 0; i < 9; ++i) watch.add(waiting_step(++step));
    for (size_t probe = 0; probe < probes.size() && step < 60;) {
      if (watch.add(waiting_step(++step))) CHECK(watch.found(step, probe_of(probes[probe++])).empty());
    }
  }
}

TEST_CASE("nothing is probed where nobody waits, in tiny steps, and never for more than a thousandth of the time") {
  LinkWatch busy, tiny, dear;
  for (int64_t step = 1; step <= 300; ++step) {
    LinkWatch::Step one = waiting_step(step);
    one.waits_s = 0.04;
    CHECK_FALSE(busy.add(one));
    one.step_s = 0.005;
    one.waits_s = 0.004;
    CHECK_FALSE(tiny.add(one));
  }
  int probes = 0;
  for (int64_t step = 1; step <= 5000; ++step) {
    if (!dear.add(waiting_step(step))) continue;
    ++probes;
    LinkTimes times = probe_of(all_links(3, [](int, int) { return 0.1; }));
    times.took_s = 0.5;  // as long as a step
    CHECK(dear.found(step, times).empty());
  }
  CHECK(probes == 5);
}

TEST_CASE("every link has its turn, ranks of a node one after the other between nodes") {
  const std::vector<LinkTurn> turns = link_turns({0, 0, 1, 1, 2, 2});
  std::set<std::pair<int, int>> inside, between;
  for (const LinkTurn& turn : turns) {
    std::set<int> busy;
    std::array<int, 3> senders_of_node{};
    for (int from = 0; from < 6; ++from) {
      const int to = turn.to[static_cast<size_t>(from)];
      if (to < 0) continue;
      CHECK((to != from && busy.insert(from).second && busy.insert(to).second));
      CHECK((from / 2 == to / 2) == (turn.link == kIntra));
      (turn.link == kIntra ? inside : between).emplace(from, to);
      CHECK((turn.link == kIntra || ++senders_of_node[static_cast<size_t>(from / 2)] == 1));
    }
  }
  CHECK(inside.size() == 6);
  CHECK(between.size() == 12);  // to the like-placed rank of two other nodes
  // Uneven nodes, ranks without a partner, large jobs.
  int between_uneven = 0;
  for (const LinkTurn& turn : link_turns({0, 0, 0, 7})) {
    if (turn.link == kIntra) CHECK(turn.to[3] == -1);
    if (turn.link == kInter) CHECK((++between_uneven > 0 && (turn.to[0] == 3) != (turn.to[3] == 0)));
  }
  CHECK(between_uneven == 2);
  CHECK(link_turns({4}).empty());
  int64_t links = 0;
  for (const LinkTurn& turn : link_turns(std::vector<int>(200, 1))) {
    links += std::ranges::count_if(turn.to, [](int to) { return to >= 0; });
  }
  CHECK(links == 16 * 200);
}

TEST_CASE("slow links of ranks that work are named, and only they", "[threads]") {
  CHECK(told_on(emulated(), 4, 1).empty());
  CHECK_THAT(told_on(emulated(2), 4, 1), Contains("the link between nodes from and to rank 2 is slow"));
  const std::string one = told_on(emulated(3, 1), 4, 1);
  CHECK_THAT(one, Contains("the link between nodes between ranks 1 and 3 is slow") && !Contains("rank 2"));
  CHECK_THAT(told_on(emulated(1, 3), 4, 2), Contains("the link between nodes between ranks 1 and 3 is slow"));
  CHECK_THAT(told_on(emulated(2, 1), 3, 3), Contains("the link inside a node between ranks 1 and 2 is slow"));
}

TEST_CASE("a rank that is late for every step has no slow link", "[threads]") {
  const auto late = [](int rank) {
    if (rank == 2) std::this_thread::sleep_for(std::chrono::milliseconds(30));
  };
  CHECK(told_on(emulated(), 4, 1, late).empty());
  CHECK(told_on(emulated(), 3, 1, late).empty());
}

}  // namespace shoal
