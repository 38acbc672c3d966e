// tests/kernels/topk_balance_test.cpp: the router's balance loss: its formula, its gradient, and runs split over ranks.
#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"
#include "tests/kernels/router_test.h"

namespace shoal {
namespace {

// The header's formula, word for word.
double reference_balance(const std::vector<double>& scores, const std::vector<int32_t>& experts,
                         const std::vector<int64_t>& offsets, double coefficient, const RouterShape& s) {
  double loss = 0;
  for (size_t run = 1; run < offsets.size(); ++run) {
    const double tokens = static_cast<double>(offsets[run] - offsets[run - 1]);
    for (int64_t e = 0; e < s.num_experts && tokens > 0; ++e) {
      double count = 0, mean = 0;
      for (int64_t t = offsets[run - 1]; t < offsets[run]; ++t) {
        double sum = 0;
        for (int64_t i = 0; i < s.num_experts; ++i) sum += scores[static_cast<size_t>(t * s.num_experts + i)];
        mean += scores[static_cast<size_t>(t * s.num_experts + e)] / sum / tokens;
        for (int64_t j = 0; j < s.topk; ++j) count += experts[static_cast<size_t>(t * s.topk + j)] == e;
      }
      loss += coefficient * static_cast<double>(s.num_experts) * count / (static_cast<double>(s.topk) * tokens) * mean;
    }
  }
  return loss;
}

TEST_CASE("the balance loss and its gradient follow the formula, run by run", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterShape s{.num_experts = 7, .topk = 2};
  constexpr int64_t kTokens = 9;
  const std::vector<int64_t> offsets = {0, 4, 4, 9};
  const Shape shape{kTokens, 7};
  std::vector<double> at = normals(kTokens * 7, "scores");
  for (double& value : at) value = 1 / (1 + std::exp(-value));
  Tensor scores = device.tensor(at, shape, dtype), experts = device.empty(Shape{kTokens, 2}, DType::kI32);
  router_choose(experts, scores, Tensor(), s, device.stream);
  const std::vector<int32_t> chosen = experts.to_vector<int32_t>();
  const auto formula = [&](const std::vector<double>& x) { return reference_balance(x, chosen, offsets, 0.3, s); };

  Tensor loss = device.tensor({2}, Shape{1}, dtype),
         d_scores = device.tensor(normals(kTokens * 7, "before"), shape, dtype);
  std::vector<double> expected = values_of(d_scores);
  local_balance_loss(loss, d_scores, scores, experts, offsets, 0.3, s, device.stream);
  CHECK(values_of(loss)[0] == Approx(2 + formula(values_of(scores))).epsilon(dtype == DType::kF64 ? 1e-13 : 1e-6));
  const auto gradient = numerical_gradient(formula, at, 1e-5);
  std::vector<double> added = values_of(d_scores);
  for (size_t i = 0; i < added.size(); ++i) added[i] -= expected[i];
  CHECK(relative_error(added, gradient) < (dtype == DType::kF64 ? 1e-6 : 1e-3));

  // Perfect balance: every expert equally often and equally likely gives the coefficient itself.
  const RouterShape even{.num_experts = 4, .topk = 1, .score = RouterScore::kSoftmax};
  Tensor flat = device.tensor(std::vector<double>(16, 0.25), Shape{4, 4}, dtype),
         none = device.zeros(Shape{4, 4}, dtype);
  Tensor total = device.zeros(Shape{1}, dtype);
  local_balance_loss(total, none, flat, device.indices({0, 1, 2, 3}, Shape{4, 1}), {0, 4}, 0.01, even, device.stream);
  CHECK(values_of(total)[0] == Approx(0.01));
}

TEST_CASE("balance counts are the choices of each expert, run by run", "[cuda]") {
  TestDevice device;
  const RouterShape s{.num_experts = 4, .topk = 2};
  Tensor experts = device.indices({0, 3, 1, 3, 0, 1}, Shape{3, 2}), counts = device.empty(Shape{3, 4}, DType::kI64);
  balance_counts(counts, experts, {0, 2, 2, 3}, s, device.stream);
  CHECK(counts.to_vector<int64_t>() == std::vector<int64_t>{1, 1, 0, 2, 0, 0, 0, 0, 1, 1, 0, 0});
}

TEST_CASE("ranks that share runs add up to the balance loss of the whole, cut at any token", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterShape s{.num_experts = 7, .topk = 2};
  constexpr int64_t kTokens = 11;
  const int64_t cut = GENERATE(range(0, 12));
  CAPTURE(name_of(dtype), cut);
  const std::vector<int64_t> offsets = {0, 4, 4, 11}, run_tokens = {4, 0, 7};
  Tensor logits = device.tensor(normals(kTokens * 7, "logits"), Shape{kTokens, 7}, dtype);
  Tensor scores = device.empty(logits.shape(), dtype), experts = device.empty(Shape{kTokens, 2}, DType::kI32);
  router_scores(scores, logits, s, device.stream);
  router_choose(experts, scores, Tensor(), s, device.stream);
  Tensor loss = device.zeros(Shape{1}, dtype), d_scores = device.zeros(scores.shape(), dtype);
  local_balance_loss(loss, d_scores, scores, experts, offsets, 0.3, s, device.stream);

  struct Part {
    int64_t begin, count;
    std::vector<int64_t> offsets;
    Tensor counts;
  };
  std::vector<Part> parts = {{0, cut, {}, {}}, {cut, kTokens - cut, {}, {}}};
  std::vector<int64_t> sums(3 * 7);
  for (Part& part : parts) {
    for (const int64_t offset : offsets) {
      part.offsets.push_back(std::clamp(offset - part.begin, int64_t{0}, part.count));
    }
    part.counts = device.empty(Shape{3, 7}, DType::kI64);
    balance_counts(part.counts, experts.rows(part.begin, part.count), part.offsets, s, device.stream);
    const std::vector<int64_t> counts = part.counts.to_vector<int64_t>();
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += counts[i];
  }
  double total = 0;
  Tensor d_parts = device.zeros(scores.shape(), dtype);
  for (Part& part : parts) {
    part.counts.copy_from(sums);
    Tensor share = device.zeros(Shape{1}, dtype);
    balance_loss(share, d_parts.rows(part.begin, part.count), scores.rows(part.begin, part.count), part.counts,
                 part.offsets, run_tokens, 0.3, s, device.stream);
    total += values_of(share)[0];
  }
  CHECK(total == Approx(values_of(loss)[0]).epsilon(dtype == DType::kF64 ? 1e-13 : 1e-6));
  CHECK(same_bits(d_parts, d_scores));
}

TEST_CASE("balance losses of many runs add up", "[cuda]") {
  TestDevice device;
  const RouterShape s{.num_experts = 5, .topk = 2};
  constexpr int64_t kTokens = 300;
  std::vector<double> at = normals(kTokens * 5, "scores");
  for (double& value : at) value = 1 / (1 + std::exp(-value));
  Tensor scores = device.tensor(at, Shape{kTokens, 5}, DType::kF64),
         d_scores = device.zeros(scores.shape(), DType::kF64);
  Tensor experts = device.empty(Shape{kTokens, 2}, DType::kI32), loss = device.zeros(Shape{1}, DType::kF64);
  router_choose(experts, scores, Tensor(), s, device.stream);
  std::vector<int64_t> offsets = {0};  // runs of no, one and two tokens
  while (offsets.back() < kTokens) {
    offsets.push_back(std::min(kTokens, offsets.back() + static_cast<int64_t>(offsets.size()) % 3));
  }
  local_balance_loss(loss, d_scores, scores, experts, offsets, 0.3, s, device.stream);
  const double expected = reference_balance(values_of(scores), experts.to_vector<int32_t>(), offsets, 0.3, s);
  CHECK(values_of(loss)[0] == Approx(expected).epsilon(1e-12));
}

}  // namespace
}  // namespace shoal
