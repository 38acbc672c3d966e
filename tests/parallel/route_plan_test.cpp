// tests/parallel/route_plan_test.cpp: the plan of a MoE block's trips against a naive block that loops over tokens.
#include "parallel/route_plan.h"

#include <catch2/catch.hpp>

#include "kernels/permute_rows.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

// `topk` distinct experts of `allowed`, ascending, for each token.
std::vector<int32_t> random_choices(int64_t tokens, int64_t topk, std::vector<int32_t> allowed) {
  const CounterRandom random(5, stream_of("choices"));
  std::vector<int32_t> experts;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < topk; ++j) {
      const uint64_t left = allowed.size() - static_cast<size_t>(j);
      std::swap(allowed[static_cast<size_t>(j)],
                allowed[static_cast<size_t>(j) + random.below(left, static_cast<uint64_t>(t * topk + j))]);
    }
    experts.insert(experts.end(), allowed.begin(), allowed.begin() + topk);
    std::sort(experts.end() - topk, experts.end());
  }
  return experts;
}

// What expert e makes of x: anything that depends on both.
double expert(int32_t e, double x) { return (e + 1) * x + 0.25 * e; }

TEST_CASE("dispatch, experts and combine give what a loop over tokens gives") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const int64_t tokens = GENERATE(1, 57), topk = GENERATE(1, 3);
  constexpr int64_t kWidth = 5, kNumExperts = 8;
  CAPTURE(name_of(dtype), tokens, topk);
  // Experts 0, 3 and 7 are chosen by nobody.
  const std::vector<int32_t> chosen = random_choices(tokens, topk, {1, 2, 4, 5, 6});
  Tensor weights = cpu.tensor(normals(tokens * topk, "weights"), Shape{tokens, topk}, dtype);
  Tensor x = cpu.tensor(normals(tokens * kWidth, "x"), Shape{tokens, kWidth}, dtype);
  const RoutePlan plan = plan_routes(cpu.indices(chosen, Shape{tokens, topk}), weights, kNumExperts, cpu.stream);
  REQUIRE(plan.rows_received == tokens);
  REQUIRE(plan.rows_routed == tokens * topk);
  REQUIRE(plan.offsets.size() == kNumExperts + 1);

  Tensor sorted = cpu.empty(Shape{plan.rows_routed, kWidth}, dtype), out = cpu.empty(x.shape(), dtype);
  gather_rows(sorted, x, plan.source_row, cpu.stream);
  for (int32_t e = 0; e < kNumExperts; ++e) {
    for (int64_t row = plan.offsets[static_cast<size_t>(e)]; row < plan.offsets[static_cast<size_t>(e + 1)]; ++row) {
      CHECK(same_bits(sorted[row], x[plan.source_row.data<int32_t>()[row]]));
      dispatch_floating(dtype, [&]<class T>(T) {
        for (int64_t i = 0; i < kWidth; ++i) {
          T& value = sorted.data<T>()[row * kWidth + i];
          value = store<T>(static_cast<double>(load(plan.row_weights.data<T>()[row])) *
                           expert(e, static_cast<double>(load(value))));
        }
      });
    }
  }
  sum_rows(out, Tensor(), sorted, plan.first, plan.sorted_rows, cpu.stream);

  const std::vector<double> xs = values_of(x), ws = values_of(weights);
  std::vector<double> expected(xs.size());
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < topk; ++j) {
      for (int64_t i = 0; i < kWidth; ++i) {
        const size_t at = static_cast<size_t>(t * kWidth + i), slot = static_cast<size_t>(t * topk + j);
        expected[at] += ws[slot] * expert(chosen[slot], xs[at]);
      }
    }
  }
  CHECK(relative_error(values_of(out), expected) < forward_bound(dtype));
}

TEST_CASE("a plan's lists invert each other and are sorted as promised") {
  TestDevice cpu;
  constexpr int64_t kTokens = 40, kTopk = 4, kNumExperts = 9;
  const std::vector<int32_t> chosen = random_choices(kTokens, kTopk, {0, 1, 2, 3, 4, 5, 6, 7, 8});
  Tensor weights = cpu.tensor(normals(kTokens * kTopk, "weights"), Shape{kTokens, kTopk}, DType::kF32);
  const RoutePlan plan = plan_routes(cpu.indices(chosen, Shape{kTokens, kTopk}), weights, kNumExperts, cpu.stream);
  const auto source_row = plan.source_row.to_vector<int32_t>(), source_slot = plan.source_slot.to_vector<int32_t>();
  const auto sorted_rows = plan.sorted_rows.to_vector<int32_t>(), first = plan.first.to_vector<int32_t>();
  CHECK(plan.offsets.front() == 0);
  CHECK(plan.offsets.back() == plan.rows_routed);
  for (int64_t e = 0; e < kNumExperts; ++e) {
    for (int64_t row = plan.offsets[static_cast<size_t>(e)]; row < plan.offsets[static_cast<size_t>(e + 1)]; ++row) {
      const size_t at = static_cast<size_t>(row);
      CHECK(chosen[static_cast<size_t>(source_slot[at])] == e);
      CHECK(source_slot[at] / kTopk == source_row[at]);
      CHECK(sorted_rows[static_cast<size_t>(source_slot[at])] == row);
      // Within an expert, tokens ascend.
      if (row > plan.offsets[static_cast<size_t>(e)]) CHECK(source_row[at - 1] < source_row[at]);
      CHECK(plan.row_weights.data<float>()[row] == weights.data<float>()[source_slot[at]]);
    }
  }
  for (size_t t = 0; t <= kTokens; ++t) CHECK(first[t] == static_cast<int32_t>(t) * kTopk);

  Tensor d_weights = cpu.empty(Shape{kTokens, kTopk}, DType::kF32);
  scatter_weight_gradients(d_weights, plan.row_weights, plan, cpu.stream);  // there and back
  CHECK(same_bits(d_weights, weights));
}

TEST_CASE("a plan of no tokens has empty experts only") {
  TestDevice cpu;
  Tensor weights = cpu.empty(Shape{0, 2}, DType::kF32);
  const RoutePlan plan = plan_routes(cpu.empty(Shape{0, 2}, DType::kI32), weights, 4, cpu.stream);
  CHECK(plan.rows_received == 0);
  CHECK(plan.rows_routed == 0);
  CHECK(plan.offsets == std::vector<int64_t>{0, 0, 0, 0, 0});
  CHECK(plan.first.to_vector<int32_t>() == std::vector<int32_t>{0});
  Tensor x = cpu.empty(Shape{0, 3}, DType::kF32), sorted = cpu.empty(Shape{0, 3}, DType::kF32);
  gather_rows(sorted, x, plan.source_row, cpu.stream);
  sum_rows(x, Tensor(), sorted, plan.first, plan.sorted_rows, cpu.stream);
  scatter_weight_gradients(weights, plan.row_weights, plan, cpu.stream);
}

TEST_CASE("a plan refuses experts that do not exist or are out of order") {
  TestDevice cpu;
  Tensor weights = cpu.zeros(Shape{2, 2}, DType::kF32);
  CHECK_THROWS_WITH(plan_routes(cpu.indices({0, 1, 2, 4}, Shape{2, 2}), weights, 4, cpu.stream),
                    Contains("token 1 chose expert 4 of 4"));
  CHECK_THROWS_WITH(plan_routes(cpu.indices({0, 1, 3, 3}, Shape{2, 2}), weights, 4, cpu.stream),
                    Contains("token 1 has expert 3 after expert 3, expected ascending ids"));
  CHECK_THROWS_WITH(
      plan_routes(cpu.indices({0, 1, 2, 3}, Shape{2, 2}), cpu.zeros(Shape{2, 3}, DType::kF32), 4, cpu.stream),
      Contains("[2, 3] vs [2, 2]"));
}

TEST_CASE("a simulated device plans balanced routes of the right sizes") {
  TestDevice simulated(DeviceKind::kSimulated);
  constexpr int64_t kTokens = 10, kTopk = 3, kNumExperts = 8;
  Tensor experts = simulated.empty(Shape{kTokens, kTopk}, DType::kI32);
  Tensor weights = simulated.empty(Shape{kTokens, kTopk}, DType::kF32);
  const RoutePlan plan = plan_routes(experts, weights, kNumExperts, simulated.stream);
  CHECK(plan.rows_routed == 30);
  CHECK(plan.offsets == std::vector<int64_t>{0, 4, 8, 12, 16, 20, 24, 27, 30});  // 30 choices dealt out in turn
  CHECK(plan.source_row.shape() == Shape{30});
  CHECK(plan.sorted_rows.shape() == Shape{30});
  CHECK(plan.first.shape() == Shape{11});
  CHECK(plan.row_weights.shape() == Shape{30});
  scatter_weight_gradients(weights, plan.row_weights, plan, simulated.stream);
}

}  // namespace
}  // namespace shoal
