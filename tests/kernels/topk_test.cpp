// tests/kernels/topk_test.cpp: the router's scores, choices and weights against plain loops in double.
#include "kernels/topk.h"

#include <catch2/catch.hpp>

#include <limits>
#include <numeric>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

std::vector<double> reference_scores(const std::vector<double>& logits, const RouterShape& s) {
  std::vector<double> scores;
  const size_t num_experts = static_cast<size_t>(s.num_experts);
  for (size_t begin = 0; begin < logits.size(); begin += num_experts) {
    double sum = 0;
    for (size_t e = 0; e < num_experts; ++e) sum += std::exp(logits[begin + e]);
    for (size_t e = 0; e < num_experts; ++e) {
      scores.push_back(s.score == RouterScore::kSoftmax ? std::exp(logits[begin + e]) / sum
                                                        : 1 / (1 + std::exp(-logits[begin + e])));
    }
  }
  return scores;
}

// Ids of the `count` largest, ties to the lower id: sorted by value, then by id.
std::vector<int32_t> best_ids(const std::vector<double>& values, int64_t count) {
  std::vector<int32_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  ids.resize(static_cast<size_t>(count));
  std::sort(ids.begin(), ids.end());
  return ids;
}

// The published procedure, for one token: rank groups, mask with -Inf, take the best.
std::vector<int32_t> reference_choice(std::vector<double> biased, const RouterShape& s) {
  const size_t size = biased.size() / static_cast<size_t>(s.num_groups);
  std::vector<double> groups;
  for (int64_t g = 0; g < s.num_groups; ++g) {
    std::vector<double> members(biased.begin() + g * static_cast<int64_t>(size),
                                biased.begin() + (g + 1) * static_cast<int64_t>(size));
    std::sort(members.rbegin(), members.rend());
    groups.push_back(s.group_score == GroupScore::kTop2Sum && size > 1 ? members[0] + members[1] : members[0]);
  }
  const std::vector<int32_t> kept = best_ids(groups, s.topk_groups);
  for (size_t e = 0; e < biased.size(); ++e) {
    const bool in = std::find(kept.begin(), kept.end(), static_cast<int32_t>(e / size)) != kept.end();
    if (!in) biased[e] = -std::numeric_limits<double>::infinity();
  }
  return best_ids(biased, s.topk);
}

RouterShape published_shape(int which) {
  switch (which) {
    case 0:  // DeepSeek-V3, smaller
      return {.num_experts = 24,
              .topk = 4,
              .score = RouterScore::kSigmoid,
              .num_groups = 6,
              .topk_groups = 3,
              .group_score = GroupScore::kTop2Sum,
              .normalize = true,
              .route_scale = 2.5};
    case 1:  // DeepSeek-V2
      return {.num_experts = 20,
              .topk = 3,
              .score = RouterScore::kSoftmax,
              .num_groups = 4,
              .topk_groups = 2,
              .group_score = GroupScore::kMax,
              .normalize = false,
              .route_scale = 16};
    case 2:  // Qwen3-MoE, Mixtral
      return {.num_experts = 11, .topk = 3, .score = RouterScore::kSoftmax, .normalize = true};
    default:  // every expert chosen, groups of one
      return {.num_experts = 5,
              .topk = 5,
              .score = RouterScore::kSigmoid,
              .num_groups = 5,
              .topk_groups = 5,
              .normalize = true};
  }
}

TEST_CASE("router scores, choices and weights follow the published procedure") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterShape s = published_shape(GENERATE(0, 1, 2, 3));
  const bool biased = GENERATE(false, true);
  constexpr int64_t kTokens = 501;
  CAPTURE(name_of(dtype), s.num_experts, biased);
  Tensor logits = cpu.tensor(normals(kTokens * s.num_experts, "logits", 2), Shape{kTokens, s.num_experts}, dtype);
  Tensor bias = cpu.tensor(normals(s.num_experts, "bias", 0.3), Shape{s.num_experts}, DType::kF32);
  Tensor scores = cpu.empty(logits.shape(), dtype), weights = cpu.empty(Shape{kTokens, s.topk}, dtype);
  Tensor experts = cpu.empty(Shape{kTokens, s.topk}, DType::kI32);
  router_scores(scores, logits, s, cpu.stream);
  CHECK(relative_error(values_of(scores), reference_scores(values_of(logits), s)) < forward_bound(dtype));

  router_choose(experts, scores, biased ? bias : Tensor(), s, cpu.stream);
  router_weights(weights, scores, experts, s, cpu.stream);
  const std::vector<double> all = values_of(scores), biases = values_of(bias), w = values_of(weights);
  std::vector<double> expected_weights;
  for (int64_t t = 0; t < kTokens; ++t) {
    const std::vector<double> mine(all.begin() + t * s.num_experts, all.begin() + (t + 1) * s.num_experts);
    std::vector<double> ranked = mine;
    for (size_t e = 0; e < ranked.size() && biased; ++e) {
      // Rounded as the op rounds, so that a near tie is decided alike.
      ranked[e] =
          dtype == DType::kF64 ? ranked[e] + biases[e] : static_cast<double>(static_cast<float>(ranked[e] + biases[e]));
    }
    const std::vector<int32_t> expected = reference_choice(ranked, s);
    const int32_t* chosen = experts.data<int32_t>() + t * s.topk;
    REQUIRE(std::vector<int32_t>(chosen, chosen + s.topk) == expected);
    double sum = 0;
    for (const int32_t e : expected) sum += mine[static_cast<size_t>(e)];
    for (const int32_t e : expected) {
      expected_weights.push_back(mine[static_cast<size_t>(e)] * s.route_scale / (s.normalize ? sum + 1e-20 : 1.0));
    }
  }
  CHECK(relative_error(w, expected_weights) < forward_bound(dtype));
}

std::vector<int32_t> choose(TestDevice& cpu, const std::vector<double>& scores, const RouterShape& s,
                            const Tensor& bias = Tensor()) {
  const int64_t tokens = static_cast<int64_t>(scores.size()) / s.num_experts;
  Tensor experts = cpu.empty(Shape{tokens, s.topk}, DType::kI32);
  router_choose(experts, cpu.tensor(scores, Shape{tokens, s.num_experts}, DType::kF32), bias, s, cpu.stream);
  return experts.to_vector<int32_t>();
}

TEST_CASE("ties take the lower expert and the lower group") {
  TestDevice cpu;
  const RouterShape flat{.num_experts = 6, .topk = 3};
  CHECK(choose(cpu, {0.5, 0.5, 0.5, 0.5, 0.5, 0.5}, flat) == std::vector<int32_t>{0, 1, 2});
  CHECK(choose(cpu, {0.1, 0.5, 0.9, 0.5, 0.5, 0.9}, flat) == std::vector<int32_t>{1, 2, 5});
  const RouterShape grouped{.num_experts = 6, .topk = 2, .num_groups = 3, .topk_groups = 1};
  // Groups {0,1}, {2,3}, {4,5}: the last two tie at 1.0.
  CHECK(choose(cpu, {0.1, 0.2, 0.9, 0.1, 0.5, 0.5}, grouped) == std::vector<int32_t>{2, 3});
}

TEST_CASE("an expert of a dropped group is never chosen, even when every kept score is negative") {
  TestDevice cpu;
  const RouterShape s{.num_experts = 4, .topk = 2, .num_groups = 2, .topk_groups = 1};
  Tensor bias = cpu.tensor({-5, -5, -1, -9}, Shape{4}, DType::kF32);
  // Biased: {-4.9, -4.9}, {-0.5, -8.5}: the second group's sum (-9.0) beats the first's (-9.8).
  CHECK(choose(cpu, {0.1, 0.1, 0.5, 0.5}, s, bias) == std::vector<int32_t>{2, 3});
}

TEST_CASE("a row of NaN still yields distinct experts") {
  TestDevice cpu;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const RouterShape s{.num_experts = 6, .topk = 2, .num_groups = 3, .topk_groups = 2};
  const std::vector<int32_t> chosen = choose(cpu, {nan, nan, nan, nan, nan, nan}, s);
  CHECK(chosen[0] >= 0);
  CHECK(chosen[0] < chosen[1]);
  CHECK(chosen[1] < 6);
}

TEST_CASE("the router's gradient agrees with central differences") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterScore score = GENERATE(RouterScore::kSigmoid, RouterScore::kSoftmax);
  const bool normalize = GENERATE(false, true), with_d_scores = GENERATE(false, true);
  CAPTURE(name_of(dtype), static_cast<int>(score), normalize, with_d_scores);
  const RouterShape s{.num_experts = 7, .topk = 3, .score = score, .normalize = normalize, .route_scale = 2.5};
  const Shape shape{3, 7}, chosen{3, 3};
  // The choice is held fixed, as in backward: it has no gradient.
  Tensor experts = cpu.indices({0, 2, 6, 1, 2, 3, 4, 5, 6}, chosen);
  Tensor d_weights = cpu.tensor(normals(9, "d_weights"), chosen, dtype),
         d_scores = cpu.tensor(normals(21, "d_scores"), shape, dtype);
  Tensor scores = cpu.empty(shape, dtype), weights = cpu.empty(chosen, dtype);
  const auto loss = [&](const std::vector<double>& logits) {
    router_scores(scores, cpu.tensor(logits, shape, dtype), s, cpu.stream);
    router_weights(weights, scores, experts, s, cpu.stream);
    const double through_scores = with_d_scores ? dot(values_of(scores), values_of(d_scores)) : 0;
    return dot(values_of(weights), values_of(d_weights)) + through_scores;
  };
  const std::vector<double> at = normals(21, "logits");
  const auto expected = numerical_gradient(loss, at, gradient_step(dtype));
  loss(at);
  Tensor d_logits = cpu.empty(shape, dtype);
  router_backward(d_logits, d_weights, with_d_scores ? d_scores : Tensor(), scores, experts, s, cpu.stream);
  CHECK(relative_error(values_of(d_logits), expected) < gradient_bound(dtype));
}

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

// Both ops, with every run whole on this rank.
void local_balance_loss(const Tensor& loss, const Tensor& d_scores, const Tensor& scores, const Tensor& experts,
                        const std::vector<int64_t>& offsets, double coefficient, const RouterShape& s, Stream& stream) {
  std::vector<int64_t> run_tokens;
  for (size_t run = 1; run < offsets.size(); ++run) run_tokens.push_back(offsets[run] - offsets[run - 1]);
  Tensor counts = stream.workspace(Shape{static_cast<int64_t>(run_tokens.size()), s.num_experts}, DType::kI64);
  balance_counts(counts, experts, offsets, s, stream);
  balance_loss(loss, d_scores, scores, counts, offsets, run_tokens, coefficient, s, stream);
}

TEST_CASE("the balance loss and its gradient follow the formula, run by run") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterShape s{.num_experts = 7, .topk = 2};
  constexpr int64_t kTokens = 9;
  const std::vector<int64_t> offsets = {0, 4, 4, 9};
  const Shape shape{kTokens, 7};
  std::vector<double> at = normals(kTokens * 7, "scores");
  for (double& value : at) value = 1 / (1 + std::exp(-value));
  Tensor scores = cpu.tensor(at, shape, dtype), experts = cpu.empty(Shape{kTokens, 2}, DType::kI32);
  router_choose(experts, scores, Tensor(), s, cpu.stream);
  const std::vector<int32_t> chosen = experts.to_vector<int32_t>();
  const auto formula = [&](const std::vector<double>& x) { return reference_balance(x, chosen, offsets, 0.3, s); };

  Tensor loss = cpu.tensor({2}, Shape{1}, dtype), d_scores = cpu.tensor(normals(kTokens * 7, "before"), shape, dtype);
  std::vector<double> expected = values_of(d_scores);
  local_balance_loss(loss, d_scores, scores, experts, offsets, 0.3, s, cpu.stream);
  CHECK(values_of(loss)[0] == Approx(2 + formula(values_of(scores))).epsilon(dtype == DType::kF64 ? 1e-13 : 1e-6));
  const auto gradient = numerical_gradient(formula, at, 1e-5);
  std::vector<double> added = values_of(d_scores);
  for (size_t i = 0; i < added.size(); ++i) added[i] -= expected[i];
  CHECK(relative_error(added, gradient) < (dtype == DType::kF64 ? 1e-6 : 1e-3));

  // Perfect balance: every expert equally often and equally likely gives the coefficient itself.
  const RouterShape even{.num_experts = 4, .topk = 1, .score = RouterScore::kSoftmax};
  Tensor flat = cpu.tensor(std::vector<double>(16, 0.25), Shape{4, 4}, dtype), none = cpu.zeros(Shape{4, 4}, dtype);
  Tensor total = cpu.zeros(Shape{1}, dtype);
  local_balance_loss(total, none, flat, cpu.indices({0, 1, 2, 3}, Shape{4, 1}), {0, 4}, 0.01, even, cpu.stream);
  CHECK(values_of(total)[0] == Approx(0.01));
}

TEST_CASE("balance counts are the choices of each expert, run by run") {
  TestDevice cpu;
  const RouterShape s{.num_experts = 4, .topk = 2};
  Tensor experts = cpu.indices({0, 3, 1, 3, 0, 1}, Shape{3, 2}), counts = cpu.empty(Shape{3, 4}, DType::kI64);
  balance_counts(counts, experts, {0, 2, 2, 3}, s, cpu.stream);
  CHECK(counts.to_vector<int64_t>() == std::vector<int64_t>{1, 1, 0, 2, 0, 0, 0, 0, 1, 1, 0, 0});
}

TEST_CASE("ranks that share runs add up to the balance loss of the whole, cut at any token") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterShape s{.num_experts = 7, .topk = 2};
  constexpr int64_t kTokens = 11;
  const int64_t cut = GENERATE(range(0, 12));
  CAPTURE(name_of(dtype), cut);
  const std::vector<int64_t> offsets = {0, 4, 4, 11}, run_tokens = {4, 0, 7};
  Tensor logits = cpu.tensor(normals(kTokens * 7, "logits"), Shape{kTokens, 7}, dtype);
  Tensor scores = cpu.empty(logits.shape(), dtype), experts = cpu.empty(Shape{kTokens, 2}, DType::kI32);
  router_scores(scores, logits, s, cpu.stream);
  router_choose(experts, scores, Tensor(), s, cpu.stream);
  Tensor loss = cpu.zeros(Shape{1}, dtype), d_scores = cpu.zeros(scores.shape(), dtype);
  local_balance_loss(loss, d_scores, scores, experts, offsets, 0.3, s, cpu.stream);

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
    part.counts = cpu.empty(Shape{3, 7}, DType::kI64);
    balance_counts(part.counts, experts.rows(part.begin, part.count), part.offsets, s, cpu.stream);
    const std::vector<int64_t> counts = part.counts.to_vector<int64_t>();
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += counts[i];
  }
  double total = 0;
  Tensor d_parts = cpu.zeros(scores.shape(), dtype);
  for (Part& part : parts) {
    part.counts.copy_from(sums);
    Tensor share = cpu.zeros(Shape{1}, dtype);
    balance_loss(share, d_parts.rows(part.begin, part.count), scores.rows(part.begin, part.count), part.counts,
                 part.offsets, run_tokens, 0.3, s, cpu.stream);
    total += values_of(share)[0];
  }
  CHECK(total == Approx(values_of(loss)[0]).epsilon(dtype == DType::kF64 ? 1e-13 : 1e-6));
  CHECK(same_bits(d_parts, d_scores));
}

TEST_CASE("the router gives the same bits on any thread count") {
  TestDevice cpu;
  const RouterShape s = published_shape(GENERATE(0, 1));
  constexpr int64_t kTokens = 2001;
  Tensor logits = cpu.tensor(normals(kTokens * s.num_experts, "logits"), Shape{kTokens, s.num_experts}, DType::kF32);
  Tensor d_weights = cpu.tensor(normals(kTokens * s.topk, "d_weights"), Shape{kTokens, s.topk}, DType::kF32);
  std::vector<std::vector<Tensor>> runs;
  for (const int threads : {1, 2, 3}) {
    const ThreadCount count(threads);
    Tensor scores = cpu.empty(logits.shape(), DType::kF32), experts = cpu.empty(d_weights.shape(), DType::kI32);
    Tensor d_scores = cpu.zeros(logits.shape(), DType::kF32), d_logits = cpu.empty(logits.shape(), DType::kF32);
    Tensor loss = cpu.zeros(Shape{1}, DType::kF32);
    router_scores(scores, logits, s, cpu.stream);
    router_choose(experts, scores, Tensor(), s, cpu.stream);
    local_balance_loss(loss, d_scores, scores, experts, {0, kTokens}, 1, s, cpu.stream);
    router_backward(d_logits, d_weights, d_scores, scores, experts, s, cpu.stream);
    runs.push_back({scores, experts, loss, d_scores, d_logits});
  }
  for (size_t run = 1; run < runs.size(); ++run) {
    for (size_t i = 0; i < runs[0].size(); ++i) CHECK(same_bits(runs[run][i], runs[0][i]));
  }
}

TEST_CASE("the router accepts no tokens and explains what does not fit") {
  TestDevice cpu;
  const RouterShape s{.num_experts = 4, .topk = 2};
  Tensor none = cpu.empty(Shape{0, 4}, DType::kF32), no_weights = cpu.empty(Shape{0, 2}, DType::kF32);
  Tensor no_experts = cpu.empty(Shape{0, 2}, DType::kI32), loss = cpu.zeros(Shape{1}, DType::kF32);
  router_scores(none, none, s, cpu.stream);
  router_choose(no_experts, none, Tensor(), s, cpu.stream);
  router_weights(no_weights, none, no_experts, s, cpu.stream);
  router_backward(none, no_weights, none, none, no_experts, s, cpu.stream);
  local_balance_loss(loss, none, none, no_experts, {0, 0}, 1, s, cpu.stream);
  CHECK(values_of(loss)[0] == 0);

  Tensor scores = cpu.zeros(Shape{2, 4}, DType::kF32), weights = cpu.zeros(Shape{2, 2}, DType::kF32);
  CHECK_THROWS_WITH(router_weights(weights, scores, cpu.indices({0, 1, 2, 4}, Shape{2, 2}), s, cpu.stream),
                    Contains("token 1, choice 1: expert 4 where ids must ascend within 0 to 3"));
  CHECK_THROWS_WITH(router_weights(weights, scores, cpu.indices({1, 1, 2, 3}, Shape{2, 2}), s, cpu.stream),
                    Contains("token 0, choice 1: expert 1"));
  Tensor experts = cpu.indices({0, 1, 2, 3}, Shape{2, 2});
  CHECK_THROWS_WITH(
      router_choose(experts, scores, Tensor(), {.num_experts = 4, .topk = 2, .num_groups = 3}, cpu.stream),
      Contains("4 experts in 3 groups"));
  CHECK_THROWS_WITH(router_choose(experts, scores, Tensor(),
                                  {.num_experts = 4, .topk = 2, .num_groups = 4, .topk_groups = 1}, cpu.stream),
                    Contains("a token chooses 2 experts among the 1 of its groups"));
  Tensor counts = cpu.zeros(Shape{1, 4}, DType::kI64);
  CHECK_THROWS_WITH(balance_counts(counts, experts, {0, 1}, s, cpu.stream), Contains("runs must cover the 2 tokens"));
  CHECK_THROWS_WITH(balance_counts(counts, cpu.indices({0, 1, 2, 4}, Shape{2, 2}), {0, 2}, s, cpu.stream),
                    Contains("token 1, choice 1: expert 4"));
  CHECK_THROWS_WITH(balance_counts(counts, experts, {0, 1, 2}, s, cpu.stream), Contains("[1, 4] vs [2, 4]"));
  CHECK_THROWS_WITH(balance_counts(cpu.zeros(Shape{1, 4}, DType::kI32), experts, {0, 2}, s, cpu.stream),
                    Contains("found i32, expected i64"));
  balance_counts(counts, experts, {0, 2}, s, cpu.stream);
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 1}, {2}, 1, s, cpu.stream),
                    Contains("runs must cover the 2 tokens"));
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 2}, {1}, 1, s, cpu.stream),
                    Contains("run 0 has 2 tokens here, 1 in all"));
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 2}, {3}, 1, s, cpu.stream),
                    Contains("a run of 3 tokens has 4 choices, expected 6"));
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 2}, {2, 0}, 1, s, cpu.stream), Contains("2 vs 1"));
}

TEST_CASE("the router touches nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  const RouterShape s{.num_experts = 4, .topk = 2};
  Tensor logits = simulated.empty(Shape{3, 4}, DType::kF32), weights = simulated.empty(Shape{3, 2}, DType::kF32);
  Tensor experts = simulated.empty(Shape{3, 2}, DType::kI32), bias = simulated.empty(Shape{4}, DType::kF32);
  router_scores(logits, logits, s, simulated.stream);
  router_choose(experts, logits, bias, s, simulated.stream);
  router_weights(weights, logits, experts, s, simulated.stream);
  local_balance_loss(simulated.empty(Shape{1}, DType::kF32), logits, logits, experts, {0, 3}, 1, s, simulated.stream);
  router_backward(logits, weights, logits, logits, experts, s, simulated.stream);
  CHECK(simulated.stream.work().size() == 6);
  CHECK(simulated.stream.work().at("router.choose").bytes == 48 + 24 + 16);
}

}  // namespace
}  // namespace shoal
