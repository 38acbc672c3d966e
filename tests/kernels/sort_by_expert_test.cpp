// tests/kernels/sort_by_expert_test.cpp: the order against a stable sort, on every device.
#include "kernels/sort_by_expert.h"

#include <catch2/catch.hpp>

#include <numeric>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Contains;

// Ascending experts for each token, by chance; a few experts get most.
std::vector<int32_t> random_choices(int64_t tokens, int64_t topk, int64_t num_experts) {
  const CounterRandom random(11, stream_of("choices"));
  std::vector<int32_t> chosen;
  for (int64_t token = 0; token < tokens; ++token) {
    std::vector<std::pair<double, int32_t>> drawn;
    for (int64_t e = 0; e < num_experts; ++e) {
      const auto at = static_cast<uint64_t>(token * num_experts + e);
      drawn.emplace_back(random.normal(at) + (e < 3 ? 1.5 : 0), static_cast<int32_t>(e));
    }
    std::sort(drawn.rbegin(), drawn.rend());
    std::vector<int32_t> best;
    for (int64_t k = 0; k < topk; ++k) best.push_back(drawn[static_cast<size_t>(k)].second);
    std::sort(best.begin(), best.end());
    chosen.insert(chosen.end(), best.begin(), best.end());
  }
  return chosen;
}

TEST_CASE("choices are sorted by expert, an expert's by token", "[cuda]") {
  TestDevice device;
  struct Sizes {
    int64_t tokens, topk, num_experts;
  };
  const Sizes s = GENERATE(Sizes{1, 1, 1}, Sizes{7, 2, 3}, Sizes{512, 1, 5}, Sizes{300, 4, 32}, Sizes{129, 8, 300},
                           Sizes{1025, 2, 64});
  const DType dtype = GENERATE(DType::kF32, DType::kF64);
  CAPTURE(s.tokens, s.topk, s.num_experts);
  const std::vector<int32_t> chosen = random_choices(s.tokens, s.topk, s.num_experts);
  const Tensor experts = device.indices(chosen, {s.tokens, s.topk});
  const Tensor weights = device.tensor(normals(s.tokens * s.topk, "weights"), {s.tokens, s.topk}, dtype);
  const ExpertOrder order = empty_expert_order(s.tokens, s.topk, s.num_experts, dtype, device.stream);
  sort_by_expert(order, experts, weights, device.stream);

  std::vector<size_t> sorted(chosen.size());
  std::iota(sorted.begin(), sorted.end(), size_t{0});
  std::stable_sort(sorted.begin(), sorted.end(), [&](size_t a, size_t b) { return chosen[a] < chosen[b]; });
  std::vector<int64_t> counts(static_cast<size_t>(s.num_experts));
  std::vector<int32_t> source_row, sorted_rows(chosen.size()), first;
  std::vector<double> row_weights;
  const std::vector<double> given = values_of(weights);
  for (size_t row = 0; row < sorted.size(); ++row) {
    ++counts[static_cast<size_t>(chosen[sorted[row]])];
    source_row.push_back(static_cast<int32_t>(sorted[row]) / static_cast<int32_t>(s.topk));
    sorted_rows[sorted[row]] = static_cast<int32_t>(row);
    row_weights.push_back(given[sorted[row]]);
  }
  for (int64_t token = 0; token <= s.tokens; ++token) first.push_back(static_cast<int32_t>(token * s.topk));
  CHECK(order.counts.to_vector<int64_t>() == counts);
  CHECK(order.source_row.to_vector<int32_t>() == source_row);
  CHECK(order.sorted_rows.to_vector<int32_t>() == sorted_rows);
  CHECK(order.first.to_vector<int32_t>() == first);
  CHECK(values_of(order.row_weights) == row_weights);
}

TEST_CASE("no tokens are sorted into no rows", "[cuda]") {
  TestDevice device;
  const ExpertOrder order = empty_expert_order(0, 2, 4, DType::kF32, device.stream);
  sort_by_expert(order, device.indices({}, {0, 2}), device.tensor({}, {0, 2}, DType::kF32), device.stream);
  CHECK(order.counts.to_vector<int64_t>() == std::vector<int64_t>(4, 0));
  CHECK(order.first.to_vector<int32_t>() == std::vector<int32_t>{0});
}

TEST_CASE("choices that are none are refused with the token") {
  TestDevice device(DeviceKind::kCpu);
  const Tensor weights = device.zeros({2, 2}, DType::kF32);
  const ExpertOrder order = empty_expert_order(2, 2, 4, DType::kF32, device.stream);
  CHECK_THROWS_WITH(sort_by_expert(order, device.indices({0, 1, 2, 4}, {2, 2}), weights, device.stream),
                    Contains("token 1 chose expert 4 of 4"));
  CHECK_THROWS_WITH(sort_by_expert(order, device.indices({0, 1, 2, 2}, {2, 2}), weights, device.stream),
                    Contains("token 1 has expert 2 after expert 2"));
  CHECK_THROWS_WITH(sort_by_expert(order, device.indices({0, 1, 2}, {1, 3}), weights, device.stream),
                    Contains("[1, 3]"));
}

}  // namespace
}  // namespace shoal
