// tests/parallel/combine_wire_test.cpp: rows that come back from the experts encoded: their errors and their bytes, on
// ranks that are threads, by either way of dispatch.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

#include "kernels/topk.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"
#include "parallel/thread_communicator.h"
#include "parallel/token_exchange.h"
#include "tests/kernels/op_test.h"
#include "tests/parallel/random_choices.h"
#include "tests/rank_check.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr int64_t kExperts = 16, kTopk = 3, kWidth = 200;  // a full tile and a part of one
constexpr std::array kFormats = {WireFormat::kE4M3, WireFormat::kE5M6, WireFormat::kLogFmt8, WireFormat::kLogFmt10};

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
  return {{2, 2, 1, 0, D}, {2, 1, 2, 0, D}, {4, 4, 1, 2, D}, {4, 4, 1, 2, H},
          {4, 2, 2, 0, D}, {8, 4, 2, 4, H}, {8, 8, 1, 4, D}, {8, 8, 1, 4, H}};
}

std::string title(const Layout& l, WireFormat format) {
  return fmt::format("{}, {} ranks, expert {}, expert_tensor {}, {} a node, {}", name_of(format), l.ranks, l.expert,
                     l.expert_tensor, l.ranks_per_node, ParallelConfig::Dispatch_Name(l.dispatch));
}

std::vector<int32_t> choices(int64_t tokens, int rank) {
  return random_choices(tokens, kTopk, all_experts(kExperts), rank);
}

// One rank's way back of the same rows in a format: what arrives, and what was sent.
struct Returned {
  std::vector<double> values;
  WireBytes sent;
  int64_t rows_to_others = 0, own_rows = 0;  // over all hops
};

Returned combine(const Layout& layout, Communicator& world, Allocator& memory, DType dtype, WireFormat format,
                 bool with_base = false) {
  Stream stream(memory);
  Lane lane(stream, 0);
  const ProcessMesh mesh({.expert = layout.expert, .expert_tensor = layout.expert_tensor}, world);
  const TokenExchange exchange(mesh, kExperts, layout.dispatch, format);
  const int64_t tokens = 9 + 4 * world.rank();
  Tensor experts = stream.activation({tokens, kTopk}, DType::kI32);
  experts.copy_from(choices(tokens, world.rank()));
  const Tensor weights = Tensor::zeros({tokens, kTopk}, DType::kF32, memory, MemoryKind::kActivations);
  const RoutePlan plan = run_lane(lane, exchange.plan(experts, weights, nullptr, lane));
  const auto random_rows = [&](int64_t rows, const std::string& name) {
    const Tensor x = stream.activation({rows, kWidth}, dtype);
    const std::vector<double> values = normals(rows * kWidth, fmt::format("{}{}", name, world.rank()));
    dispatch_floating(dtype, [&]<class T>(T) {
      for (size_t i = 0; i < values.size(); ++i) x.data<T>()[i] = store<T>(values[i]);
    });
    return x;
  };
  Tensor base;
  if (with_base) base = random_rows(tokens, "base");
  const WireBytes before = mesh.bytes();
  const Tensor back =
      run_lane(lane, exchange.to_tokens(random_rows(plan.rows_routed, "expert outputs"), base, plan, lane));
  Returned result{.values = values_of(back), .sent = mesh.bytes()};
  for (size_t link = 0; link < kNumLinkClasses; ++link) result.sent.payload[link] -= before.payload[link];
  RANK_CHECK(result.sent.metadata == before.metadata);
  for (const HopPlan& hop : plan.hops) {
    const int64_t own = hop.total_rows_received() == 0 ? 0 : hop.rows_received[static_cast<size_t>(hop.group->rank())];
    result.own_rows += own;
    result.rows_to_others += hop.total_rows_received() - own;
  }
  return result;
}

// Of a sum of rows that were each encoded once or, by nodes or where experts are split, twice.
double bound(WireFormat format) {
  switch (format) {
    case WireFormat::kE4M3: return 0.045;
    case WireFormat::kLogFmt8: return 0.03;
    default: return 0.008;
  }
}

}  // namespace

TEST_CASE("rows that come back encoded are within their format's error, and as many bytes as it says", "[threads]") {
  for (const Layout& layout : layouts()) {
    for (const WireFormat format : kFormats) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        run_thread_ranks(layout.ranks, {.ranks_per_node = layout.ranks_per_node},
                         [&](Communicator& world, Allocator& memory) {
                           const Returned plain = combine(layout, world, memory, dtype, WireFormat::kPlain);
                           const Returned encoded = combine(layout, world, memory, dtype, format);
                           const double error = relative_error(encoded.values, plain.values);
                           const bool exact_enough = error < bound(format) + (dtype == DType::kBF16 ? 0.003 : 0);
                           if (!exact_enough || error == 0) fail("{}: relative error {}", title(layout, format), error);
                           const int64_t row_bytes = encoded_row_bytes(format, kWidth);
                           const auto& payload = encoded.sent.payload;
                           RANK_CHECK(payload[0] == encoded.own_rows * row_bytes);
                           RANK_CHECK(payload[1] + payload[2] == encoded.rows_to_others * row_bytes);
                           RANK_CHECK(plain.sent.payload[1] + plain.sent.payload[2] ==
                                      plain.rows_to_others * kWidth * size_of(dtype));
                           if (world.rank() == 0 && layout.ranks == 8 && dtype == DType::kBF16 && layout.expert == 8) {
                             std::printf("combine %s: relative error %.2e, %ld B a row of %ld (bf16: %ld)\n",
                                         title(layout, format).c_str(), error, row_bytes, kWidth, 2 * kWidth);
                           }
                         });
      }
    }
  }
}

TEST_CASE("what comes back encoded is added to what is there, and repeats bit by bit", "[threads]") {
  const Layout layout{4, 4, 1, 2, ParallelConfig::HIERARCHICAL};
  for (const WireFormat format : kFormats) {
    run_thread_ranks(4, {.ranks_per_node = 2}, [&](Communicator& world, Allocator& memory) {
      const Returned alone = combine(layout, world, memory, DType::kF32, format);
      const Returned onto = combine(layout, world, memory, DType::kF32, format, true);
      std::vector<double> expected =
          normals(static_cast<int64_t>(alone.values.size()), fmt::format("base{}", world.rank()));
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += alone.values[i];
      RANK_CHECK(relative_error(onto.values, expected) < 1e-6);
      RANK_CHECK(combine(layout, world, memory, DType::kF32, format).values == alone.values);
    });
  }
}

TEST_CASE("a simulated rank counts the bytes of encoded rows") {
  Allocator paper(DeviceKind::kSimulated);
  Stream stream(paper);
  Lane lane(stream, 0);
  constexpr int64_t kTokens = 64, kHidden = 7168;
  const auto bytes_back = [&](WireFormat format) {
    SimulatedCommunicator world(3, simulated_nodes(16, 8), paper);
    const ProcessMesh mesh({.expert = 16}, world);
    const TokenExchange exchange(mesh, kExperts, ParallelConfig::HIERARCHICAL, format);
    const RouterShape shape{.num_experts = kExperts, .topk = kTopk};
    const RoutePlan plan = run_lane(
        lane, exchange.plan(
                  stream.activation({kTokens, kTopk}, DType::kI32), stream.activation({kTokens, kTopk}, DType::kF32),
                  [&] { return balanced_choices(0, kTokens, shape); }, lane));
    const WireBytes before = mesh.bytes();
    run_lane(lane,
             exchange.to_tokens(stream.activation({plan.rows_routed, kHidden}, DType::kBF16), Tensor(), plan, lane));
    return mesh.bytes().payload[1] + mesh.bytes().payload[2] - before.payload[1] - before.payload[2];
  };
  const int64_t plain = bytes_back(WireFormat::kPlain);
  CHECK(plain > 0);
  for (const WireFormat format : kFormats) {
    CHECK(bytes_back(format) * 2 * kHidden == plain * encoded_row_bytes(format, kHidden));
  }
}

TEST_CASE("rows that do not travel are not encoded; f64 rows, of tests, have no format", "[threads]") {
  SelfCommunicator self;
  Allocator cpu(DeviceKind::kCpu);
  const Layout one;
  CHECK(combine(one, self, cpu, DType::kF32, WireFormat::kE4M3).values ==
        combine(one, self, cpu, DType::kF32, WireFormat::kPlain).values);
  REQUIRE_THROWS_WITH(run_thread_ranks(2, {},
                                       [](Communicator& world, Allocator& memory) {
                                         combine({.ranks = 2, .expert = 2}, world, memory, DType::kF64,
                                                 WireFormat::kE5M6);
                                       }),
                      Contains("f64, expected f32 or bf16"));
}

TEST_CASE("every format of the config has one on the wire") {
  CHECK(wire_format(WirePrecision::BF16) == WireFormat::kPlain);
  CHECK(wire_format(WirePrecision::FP8) == WireFormat::kE4M3);
  CHECK(wire_format(WirePrecision::E5M6) == WireFormat::kE5M6);
  CHECK(wire_format(WirePrecision::LOGFMT8) == WireFormat::kLogFmt8);
  CHECK(wire_format(WirePrecision::LOGFMT10) == WireFormat::kLogFmt10);
}

}  // namespace shoal
