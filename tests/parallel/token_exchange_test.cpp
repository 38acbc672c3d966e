// tests/parallel/token_exchange_test.cpp: dispatch and combine, on one rank and on many, against a plain loop over
// tokens, against each other, and against the formula of the bytes they send.
#include "parallel/token_exchange.h"

#include <catch2/catch.hpp>

#include <array>
#include <cstdio>
#include <set>

#include "kernels/topk.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/kernels/op_test.h"
#include "tests/parallel/random_choices.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr int64_t kWidth = 5;

// What a rank's tokens chose, by case.
struct Case {
  std::string name;
  int64_t num_experts = 8;
  int64_t topk = 2;
  std::function<int64_t(int rank)> tokens;
  std::vector<int32_t> allowed;  // experts that may be chosen
};

std::vector<Case> cases() {
  const auto some = [](int rank) { return 11 + 5 * rank; };
  return {{"uneven", 8, 2, some, all_experts(8)},
          {"all tokens to one expert", 8, 1, some, {5}},
          {"experts that nobody chose", 16, 3, some, {0, 1, 6, 9, 10}},
          {"one token", 8, 4, [](int rank) { return rank == 1 ? 1 : 0; }, all_experts(8)},
          {"no token at all", 8, 2, [](int) { return 0; }, all_experts(8)},
          {"all experts", 8, 8, [](int rank) { return 3 + rank % 2; }, all_experts(8)}};
}

struct Layout {
  int ranks = 1;
  int expert = 1;
  int expert_tensor = 1;
  int ranks_per_node = 0;
  ParallelConfig::Dispatch dispatch = ParallelConfig::DIRECT;
};

std::vector<Layout> layouts() {
  const auto H = ParallelConfig::HIERARCHICAL;
  const auto D = ParallelConfig::DIRECT;
  return {{1, 1, 1, 0, D}, {2, 2, 1, 0, D}, {2, 1, 2, 0, D}, {2, 2, 1, 1, H}, {4, 4, 1, 0, D}, {4, 4, 1, 2, D},
          {4, 4, 1, 2, H}, {4, 2, 2, 0, D}, {4, 2, 1, 2, D}, {8, 8, 1, 0, D}, {8, 8, 1, 4, D}, {8, 8, 1, 4, H},
          {8, 8, 1, 2, H}, {8, 4, 2, 4, D}, {8, 4, 2, 4, H}, {8, 4, 1, 2, H}, {8, 2, 4, 4, D}, {8, 2, 2, 2, D}};
}

// One rank of a layout with everything a trip needs.
struct Trip {
  Allocator& allocator;
  Stream stream{allocator};
  Lane lane{stream, 0};
  ProcessMesh mesh;
  TokenExchange exchange;
  int64_t topk;
  std::vector<int32_t> chosen;
  int64_t tokens;

  Trip(const Layout& layout, const Case& c, Communicator& world, Allocator& memory)
      : allocator(memory),
        mesh({.expert = layout.expert, .expert_tensor = layout.expert_tensor}, world),
        exchange(mesh, c.num_experts, layout.dispatch),
        topk(c.topk),
        chosen(random_choices(c.tokens(world.rank()), c.topk, c.allowed, world.rank())),
        tokens(c.tokens(world.rank())) {}

  Tensor tensor(const std::vector<double>& values, Shape shape) {
    Tensor x = stream.activation(shape, DType::kF32);
    x.copy_from(std::vector<float>(values.begin(), values.end()));
    return x;
  }
  RoutePlan plan(const std::vector<double>& weights) {
    Tensor experts = stream.activation({tokens, topk}, DType::kI32);
    experts.copy_from(chosen);
    return run_lane(lane, exchange.plan(experts, tensor(weights, {tokens, topk}), nullptr, lane));
  }
  // There, through experts that multiply by the router's weight and by `factor(expert)`, and back. Of the ranks that
  // share an expert the first does it all.
  Tensor through_experts(RoutePlan plan, const Tensor& x, double (*factor)(int64_t)) {
    Tensor sorted = run_lane(lane, exchange.to_experts(x, plan, lane));
    for (size_t e = 0; e + 1 < plan.offsets.size(); ++e) {
      const double by =
          mesh.expert_tensor().rank() == 0 ? factor(exchange.local_experts().begin + static_cast<int64_t>(e)) : 0.0;
      for (int64_t row = plan.offsets[e]; row < plan.offsets[e + 1]; ++row) {
        const float weight = plan.row_weights.data<float>()[row];
        for (int64_t i = 0; i < kWidth; ++i) sorted.data<float>()[row * kWidth + i] *= weight * static_cast<float>(by);
      }
    }
    return run_lane(lane, exchange.to_tokens(sorted, Tensor(), plan, lane));
  }
};

double one(int64_t) { return 1; }
double by_expert(int64_t e) { return 0.5 + 0.25 * static_cast<double>(e); }

std::string title(const Layout& l, const Case& c) {
  return fmt::format("{}: {} ranks, expert {}, expert_tensor {}, {} a node, {}", c.name, l.ranks, l.expert,
                     l.expert_tensor, l.ranks_per_node, ParallelConfig::Dispatch_Name(l.dispatch));
}

void on_ranks(const Layout& layout, const std::function<void(Communicator&, Allocator&)>& body) {
  run_thread_ranks(layout.ranks, {.ranks_per_node = layout.ranks_per_node}, body);
}

// Catch's assertions are for one thread: ranks throw.
void check(bool ok, const std::string& what) {
  if (!ok) fail("{}", what);
}

}  // namespace

TEST_CASE("dispatch then combine with identity experts returns the input bitwise", "[threads]") {
  for (const Layout& layout : layouts()) {
    for (const Case& c : cases()) {
      on_ranks(layout, [&](Communicator& world, Allocator& memory) {
        Trip trip(layout, c, world, memory);
        const Tensor x =
            trip.tensor(normals(trip.tokens * kWidth, fmt::format("x{}", world.rank())), {trip.tokens, kWidth});
        // One-hot weights, on another slot for each token.
        std::vector<double> one_hot(static_cast<size_t>(trip.tokens * c.topk));
        for (int64_t t = 0; t < trip.tokens; ++t) one_hot[static_cast<size_t>(t * c.topk + t % c.topk)] = 1;
        const Tensor back = trip.through_experts(trip.plan(one_hot), x, one);
        check(same_bits(back, x), title(layout, c) + ", one-hot");
        // Unit weights on small integers.
        std::vector<double> integers, expected;
        for (int64_t i = 0; i < trip.tokens * kWidth; ++i) integers.push_back(static_cast<double>((i * 7) % 31 - 15));
        for (const double v : integers) expected.push_back(v * static_cast<double>(c.topk));
        const std::vector<double> ones(static_cast<size_t>(trip.tokens * c.topk), 1.0);
        const Tensor sum = trip.through_experts(trip.plan(ones), trip.tensor(integers, {trip.tokens, kWidth}), one);
        check(values_of(sum) == expected, title(layout, c) + ", unit weights");
      });
    }
  }
}

TEST_CASE("rows, weights and sums are what a loop over tokens gives", "[threads]") {
  for (const Layout& layout : layouts()) {
    for (const Case& c : cases()) {
      on_ranks(layout, [&](Communicator& world, Allocator& memory) {
        Trip trip(layout, c, world, memory);
        const std::vector<double> xs = normals(trip.tokens * kWidth, fmt::format("x{}", world.rank()));
        const std::vector<double> weights = normals(trip.tokens * c.topk, fmt::format("w{}", world.rank()));
        const Tensor x = trip.tensor(xs, {trip.tokens, kWidth});
        RoutePlan plan = trip.plan(weights);
        const Tensor out = trip.through_experts(plan, x, by_expert);
        std::vector<double> expected(xs.size());
        std::vector<int64_t> counts(static_cast<size_t>(c.num_experts));
        for (size_t slot = 0; slot < trip.chosen.size(); ++slot) {
          const size_t t = slot / static_cast<size_t>(c.topk);
          ++counts[static_cast<size_t>(trip.chosen[slot])];
          for (size_t i = 0; i < kWidth; ++i) {
            expected[t * kWidth + i] += weights[slot] * by_expert(trip.chosen[slot]) * xs[t * kWidth + i];
          }
        }
        check(relative_error(values_of(out), expected) < 1e-6, title(layout, c));
        check(plan.expert_counts == counts, title(layout, c));
        // The way back of a weight's gradient: what was sent with the row returns to its slot. Ranks that share an
        // expert add up.
        const Tensor d = run_lane(trip.lane, trip.exchange.weight_gradients(plan.row_weights, plan, trip.lane));
        std::vector<double> back;
        for (const double w : weights) back.push_back(static_cast<float>(w) * layout.expert_tensor);
        check(values_of(d) == back || relative_error(values_of(d), back) < 1e-7, title(layout, c) + ", gradients");
      });
    }
  }
}

TEST_CASE("within an expert, rows are in the order of their tokens' ranks and rows", "[threads]") {
  for (const Layout& layout : layouts()) {
    const Case c = cases()[0];
    on_ranks(layout, [&](Communicator& world, Allocator& memory) {
      Trip trip(layout, c, world, memory);
      // A row says where it comes from.
      std::vector<double> home;
      for (int64_t t = 0; t < trip.tokens; ++t) home.insert(home.end(), kWidth, 1000.0 * world.rank() + double(t));
      RoutePlan plan = trip.plan(std::vector<double>(static_cast<size_t>(trip.tokens * c.topk), 1.0));
      const Tensor sorted =
          run_lane(trip.lane, trip.exchange.to_experts(trip.tensor(home, {trip.tokens, kWidth}), plan, trip.lane));
      for (size_t e = 0; e + 1 < plan.offsets.size(); ++e) {
        for (int64_t row = plan.offsets[e] + 1; row < plan.offsets[e + 1]; ++row) {
          const float* values = sorted.data<float>();
          check(values[(row - 1) * kWidth] < values[row * kWidth], title(layout, c));
        }
      }
    });
  }
}

TEST_CASE("direct and hierarchical dispatch give the same bits, on every rank and both ways", "[threads]") {
  for (const auto& [ranks, expert, expert_tensor, per_node] :
       {std::tuple{4, 4, 1, 2}, {8, 8, 1, 4}, {8, 8, 1, 2}, {8, 4, 2, 4}, {8, 4, 1, 2}}) {
    for (const Case& c : cases()) {
      std::array<std::vector<std::vector<double>>, 2> seen;
      for (const auto dispatch : {ParallelConfig::DIRECT, ParallelConfig::HIERARCHICAL}) {
        const Layout layout{ranks, expert, expert_tensor, per_node, dispatch};
        auto& of_ranks = seen[dispatch == ParallelConfig::HIERARCHICAL];
        of_ranks.resize(static_cast<size_t>(3 * ranks));
        on_ranks(layout, [&](Communicator& world, Allocator& memory) {
          Trip trip(layout, c, world, memory);
          check(trip.exchange.hierarchical() == (dispatch == ParallelConfig::HIERARCHICAL), title(layout, c));
          const Tensor x =
              trip.tensor(normals(trip.tokens * kWidth, fmt::format("x{}", world.rank())), {trip.tokens, kWidth});
          RoutePlan plan = trip.plan(normals(trip.tokens * c.topk, fmt::format("w{}", world.rank())));
          const auto at = static_cast<size_t>(3 * world.rank());
          of_ranks[at] = values_of(run_lane(trip.lane, trip.exchange.to_experts(x, plan, trip.lane)));
          of_ranks[at + 1] = values_of(trip.through_experts(plan, x, by_expert));
          of_ranks[at + 2] =
              values_of(run_lane(trip.lane, trip.exchange.weight_gradients(plan.row_weights, plan, trip.lane)));
        });
      }
      INFO(c.name << ", " << ranks << " ranks");
      CHECK(seen[0] == seen[1]);
    }
  }
}

namespace {

// What a rank sends in a trip there and back, as the formula has it: on each hop a row for each distinct destination
// other than the rank itself. Told from all ranks' choices, by walking every token's way.
WireBytes expected_payload(const Layout& layout, const Case& c, int rank, int64_t row_bytes) {
  WireBytes bytes;
  const int64_t per_rank = c.num_experts / layout.expert;
  const int per_node = layout.ranks_per_node > 0 ? layout.ranks_per_node : layout.ranks;
  const auto add = [&](int from, int to) {
    if (from == to) return;
    const size_t link = to / per_node == from / per_node ? 1 : 2;
    if (from == rank) bytes.payload[link] += row_bytes;  // there
    if (to == rank) bytes.payload[link] += row_bytes;    // and back
  };
  for (int home = 0; home < layout.ranks; ++home) {
    const auto chosen = random_choices(c.tokens(home), c.topk, c.allowed, home);
    for (size_t first = 0; first < chosen.size(); first += static_cast<size_t>(c.topk)) {
      std::set<int> ranks, entries;
      for (size_t slot = first; slot < first + static_cast<size_t>(c.topk); ++slot) {
        ranks.insert(static_cast<int>(chosen[slot] / per_rank));
      }
      for (const int to : ranks) {
        // By nodes, rows enter a node at the rank placed like their home.
        const int entry = layout.dispatch == ParallelConfig::DIRECT ? home : to / per_node * per_node + home % per_node;
        if (entries.insert(entry).second) add(home, entry);
        add(entry, to);
      }
    }
  }
  return bytes;
}

int64_t sum_over_ranks(Communicator& world, Allocator& memory, int64_t mine) {
  const Tensor x = Tensor::empty({1}, DType::kI64, memory, MemoryKind::kWorkspace);
  x.copy_from<int64_t>({mine});
  wait(world.all_reduce(x));
  return x.data<int64_t>()[0];
}

}  // namespace

TEST_CASE("payload bytes are the formula's, metadata apart; hierarchical sends less between nodes", "[threads]") {
  // 2 nodes of 4 ranks, top-8 of 32 experts.
  const Case c{"top-8 of 32", 32, 8, [](int) { return 64; }, all_experts(32)};
  std::array<int64_t, 2> between_nodes{};
  for (const auto dispatch : {ParallelConfig::DIRECT, ParallelConfig::HIERARCHICAL}) {
    const Layout layout{8, 8, 1, 4, dispatch};
    on_ranks(layout, [&](Communicator& world, Allocator& memory) {
      Trip trip(layout, c, world, memory);
      RoutePlan plan = trip.plan(normals(trip.tokens * c.topk, "w"));
      const WireBytes before = trip.mesh.bytes();
      check(before.payload[1] + before.payload[2] == 0, "planning sends metadata only");
      check(before.metadata[1] + before.metadata[2] > 0, "planning sends metadata");
      const Tensor x = trip.tensor(normals(trip.tokens * kWidth, "x"), {trip.tokens, kWidth});
      const Tensor sorted = run_lane(trip.lane, trip.exchange.to_experts(x, plan, trip.lane));
      const int64_t there = trip.mesh.bytes().payload[2];
      run_lane(trip.lane, trip.exchange.to_tokens(sorted, Tensor(), plan, trip.lane));
      const WireBytes sent = trip.mesh.bytes();
      const WireBytes expected = expected_payload(layout, c, world.rank(), kWidth * 4);
      check(sent.payload[2] == expected.payload[2], fmt::format("{} between nodes", sent.payload[2]));
      check(sent.payload[1] == expected.payload[1], fmt::format("{} within the node", sent.payload[1]));
      check(sent.metadata == before.metadata, "rows are payload alone");
      const int64_t total = sum_over_ranks(world, memory, there);
      if (world.rank() == 0) between_nodes[dispatch == ParallelConfig::HIERARCHICAL] = total;
    });
  }
  // A token's other-node destinations: distinct ranks of 4 that hold one of its experts there, against at most one.
  // Choosing 8 of 32 leaves a given rank out with probability C(28,8)/C(32,8), a given node with C(16,8)/C(32,8).
  const double rank_left_out = 3108105.0 / 10518300.0, node_left_out = 12870.0 / 10518300.0;
  const double factor = 4 * (1 - rank_left_out) / (1 - node_left_out);
  const double found = static_cast<double>(between_nodes[0]) / static_cast<double>(between_nodes[1]);
  std::printf(
      "between nodes, 2 nodes of 4 ranks, top-8 of 32: direct %ld B, hierarchical %ld B, %.3f times less (%.3f "
      "expected)\n",
      between_nodes[0], between_nodes[1], found, factor);
  CHECK(found == Approx(factor).epsilon(0.03));
}

TEST_CASE("a group of one hops nowhere, and refuses choices that cannot be") {
  SelfCommunicator world;
  TestDevice cpu;
  Lane lane(cpu.stream, 0);
  const ProcessMesh mesh({}, world);
  const TokenExchange exchange(mesh, 4, ParallelConfig::AUTO);
  const auto plan = [&](const std::vector<int32_t>& experts, Shape weights) {
    return run_lane(lane,
                    exchange.plan(cpu.indices(experts, Shape{2, 2}), cpu.zeros(weights, DType::kF32), nullptr, lane));
  };
  CHECK(plan({0, 1, 2, 3}, {2, 2}).hops.empty());
  CHECK_THROWS_WITH(plan({0, 1, 2, 4}, {2, 2}), Contains("token 1 chose expert 4 of 4"));
  CHECK_THROWS_WITH(plan({0, 1, 3, 3}, {2, 2}),
                    Contains("token 1 has expert 3 after expert 3, expected ascending ids"));
  CHECK_THROWS_WITH(plan({0, 1, 2, 3}, {2, 3}), Contains("[2, 3] vs [2, 2]"));
}

TEST_CASE("hierarchical dispatch wants the same number of ranks on every node", "[threads]") {
  REQUIRE_THROWS_WITH(run_thread_ranks(4, {.ranks_per_node = 3},
                                       [](Communicator& world, Allocator&) {
                                         const ProcessMesh mesh({.expert = 4}, world);
                                         const TokenExchange exchange(mesh, 8, ParallelConfig::HIERARCHICAL);
                                       }),
                      Contains("nodes do not hold equally many of the 4 ranks"));
}

TEST_CASE("a simulated rank of many plans the sizes that balanced routing gives") {
  Allocator paper(DeviceKind::kSimulated);
  Stream stream(paper);
  Lane lane(stream, 0);
  constexpr int64_t kTokens = 512, kTopk = 8, kExperts = 256;
  for (const auto dispatch : {ParallelConfig::DIRECT, ParallelConfig::HIERARCHICAL}) {
    SimulatedCommunicator world(1234, simulated_nodes(2048, 8), paper);
    const ProcessMesh mesh({.expert = 64}, world);
    const TokenExchange exchange(mesh, kExperts, dispatch);
    const RouterShape shape{.num_experts = kExperts, .topk = kTopk, .num_groups = 8, .topk_groups = 4};
    Tensor experts = stream.activation({kTokens, kTopk}, DType::kI32);
    Tensor weights = stream.activation({kTokens, kTopk}, DType::kF32);
    RoutePlan plan = run_lane(lane, exchange.plan(
                                        experts, weights, [&] { return balanced_choices(0, kTokens, shape); }, lane));
    CHECK(plan.rows_routed == kTokens * kTopk);
    CHECK(plan.offsets.size() == 5);  // four experts a rank
    CHECK(exchange.local_experts().begin == 4 * (1234 % 64));
    const WireBytes before = mesh.bytes();
    const Tensor x = stream.activation({kTokens, 7168}, DType::kBF16);
    const Tensor sorted = run_lane(lane, exchange.to_experts(x, plan, lane));
    CHECK(sorted.shape() == (Shape{kTokens * kTopk, 7168}));
    // Four groups of experts, one a node: four copies between nodes at most, one of which may be this node's.
    const double copies = static_cast<double>(mesh.bytes().payload[2] - before.payload[2]) / (kTokens * 7168.0 * 2);
    if (dispatch == ParallelConfig::HIERARCHICAL) CHECK(copies == Approx(3.5));
    if (dispatch == ParallelConfig::DIRECT) CHECK(copies == Approx(7.0));
    const Tensor back = run_lane(lane, exchange.to_tokens(sorted, Tensor(), plan, lane));
    CHECK(back.shape() == (Shape{kTokens, 7168}));
  }
}

}  // namespace shoal
