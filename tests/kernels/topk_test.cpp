// tests/kernels/topk_test.cpp: the router's scores, choices and weights against plain loops in double.
#include "kernels/topk.h"

#include <catch2/catch.hpp>

#include <limits>
#include <numeric>

#include "tests/kernels/op_test.h"
#include "tests/kernels/router_test.h"

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

TEST_CASE("router scores, choices and weights follow the published procedure", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterShape s = published_shape(GENERATE(0, 1, 2, 3, 4));
  const bool biased = GENERATE(false, true);
  constexpr int64_t kTokens = 501;
  CAPTURE(name_of(dtype), s.num_experts, biased);
  Tensor logits = device.tensor(normals(kTokens * s.num_experts, "logits", 2), Shape{kTokens, s.num_experts}, dtype);
  Tensor bias = device.tensor(normals(s.num_experts, "bias", 0.3), Shape{s.num_experts}, DType::kF32);
  Tensor scores = device.empty(logits.shape(), dtype), weights = device.empty(Shape{kTokens, s.topk}, dtype);
  Tensor experts = device.empty(Shape{kTokens, s.topk}, DType::kI32);
  router_scores(scores, logits, s, device.stream);
  CHECK(relative_error(values_of(scores), reference_scores(values_of(logits), s)) < forward_bound(dtype));

  router_choose(experts, scores, biased ? bias : Tensor(), s, device.stream);
  router_weights(weights, scores, experts, s, device.stream);
  const std::vector<double> all = values_of(scores), biases = values_of(bias), w = values_of(weights);
  const std::vector<int32_t> choices = experts.to_vector<int32_t>();
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
    const auto chosen = choices.begin() + t * s.topk;
    REQUIRE(std::vector<int32_t>(chosen, chosen + s.topk) == expected);
    double sum = 0;
    for (const int32_t e : expected) sum += mine[static_cast<size_t>(e)];
    for (const int32_t e : expected) {
      expected_weights.push_back(mine[static_cast<size_t>(e)] * s.route_scale / (s.normalize ? sum + 1e-20 : 1.0));
    }
  }
  CHECK(relative_error(w, expected_weights) < forward_bound(dtype));
}

std::vector<int32_t> choose(TestDevice& device, const std::vector<double>& scores, const RouterShape& s,
                            const Tensor& bias = Tensor()) {
  const int64_t tokens = static_cast<int64_t>(scores.size()) / s.num_experts;
  Tensor experts = device.empty(Shape{tokens, s.topk}, DType::kI32);
  router_choose(experts, device.tensor(scores, Shape{tokens, s.num_experts}, DType::kF32), bias, s, device.stream);
  return experts.to_vector<int32_t>();
}

TEST_CASE("ties take the lower expert and the lower group", "[cuda]") {
  TestDevice device;
  const RouterShape flat{.num_experts = 6, .topk = 3};
  CHECK(choose(device, {0.5, 0.5, 0.5, 0.5, 0.5, 0.5}, flat) == std::vector<int32_t>{0, 1, 2});
  CHECK(choose(device, {0.1, 0.5, 0.9, 0.5, 0.5, 0.9}, flat) == std::vector<int32_t>{1, 2, 5});
  const RouterShape grouped{.num_experts = 6, .topk = 2, .num_groups = 3, .topk_groups = 1};
  // Groups {0,1}, {2,3}, {4,5}: the last two tie at 1.0.
  CHECK(choose(device, {0.1, 0.2, 0.9, 0.1, 0.5, 0.5}, grouped) == std::vector<int32_t>{2, 3});
}

TEST_CASE("an expert of a dropped group is never chosen, even when every kept score is negative", "[cuda]") {
  TestDevice device;
  const RouterShape s{.num_experts = 4, .topk = 2, .num_groups = 2, .topk_groups = 1};
  Tensor bias = device.tensor({-5, -5, -1, -9}, Shape{4}, DType::kF32);
  // Biased: {-4.9, -4.9}, {-0.5, -8.5}: the second group's sum (-9.0) beats the first's (-9.8).
  CHECK(choose(device, {0.1, 0.1, 0.5, 0.5}, s, bias) == std::vector<int32_t>{2, 3});
}

TEST_CASE("a row of NaN still yields distinct experts", "[cuda]") {
  TestDevice device;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const RouterShape s{.num_experts = 6, .topk = 2, .num_groups = 3, .topk_groups = 2};
  const std::vector<int32_t> chosen = choose(device, {nan, nan, nan, nan, nan, nan}, s);
  CHECK(chosen[0] >= 0);
  CHECK(chosen[0] < chosen[1]);
  CHECK(chosen[1] < 6);
}

TEST_CASE("the router's gradient agrees with central differences", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterScore score = GENERATE(RouterScore::kSigmoid, RouterScore::kSoftmax);
  const bool normalize = GENERATE(false, true), with_d_scores = GENERATE(false, true);
  CAPTURE(name_of(dtype), static_cast<int>(score), normalize, with_d_scores);
  const RouterShape s{.num_experts = 7, .topk = 3, .score = score, .normalize = normalize, .route_scale = 2.5};
  const Shape shape{3, 7}, chosen{3, 3};
  // The choice is held fixed, as in backward: it has no gradient.
  Tensor experts = device.indices({0, 2, 6, 1, 2, 3, 4, 5, 6}, chosen);
  Tensor d_weights = device.tensor(normals(9, "d_weights"), chosen, dtype),
         d_scores = device.tensor(normals(21, "d_scores"), shape, dtype);
  Tensor scores = device.empty(shape, dtype), weights = device.empty(chosen, dtype);
  const auto loss = [&](const std::vector<double>& logits) {
    router_scores(scores, device.tensor(logits, shape, dtype), s, device.stream);
    router_weights(weights, scores, experts, s, device.stream);
    const double through_scores = with_d_scores ? dot(values_of(scores), values_of(d_scores)) : 0;
    return dot(values_of(weights), values_of(d_weights)) + through_scores;
  };
  const std::vector<double> at = normals(21, "logits");
  const auto expected = numerical_gradient(loss, at, gradient_step(dtype));
  loss(at);
  Tensor d_logits = device.empty(shape, dtype);
  router_backward(d_logits, d_weights, with_d_scores ? d_scores : Tensor(), scores, experts, s, device.stream);
  CHECK(relative_error(values_of(d_logits), expected) < gradient_bound(dtype));
}

TEST_CASE("choices and weights have the same bits on every device", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RouterShape s = published_shape(GENERATE(0, 1, 2, 3, 4));
  constexpr int64_t kTokens = 101;
  CAPTURE(name_of(dtype), s.num_experts);
  // Few different scores, so that there are ties; and a tenth of them cannot be chosen.
  std::vector<double> values = normals(kTokens * s.num_experts, "scores");
  for (double& value : values)
    value = value < -1.3 ? -std::numeric_limits<double>::infinity() : std::round(2 * value) / 3;
  std::vector<Tensor> results;
  for (TestDevice* on : {&device, &cpu}) {
    Tensor scores = on->tensor(values, Shape{kTokens, s.num_experts}, dtype);
    Tensor bias = on->tensor(normals(s.num_experts, "bias", 1e-3), Shape{s.num_experts}, DType::kF32);
    Tensor experts = on->empty(Shape{kTokens, s.topk}, DType::kI32), biased = on->empty(experts.shape(), DType::kI32);
    Tensor weights = on->empty(experts.shape(), dtype);
    router_choose(experts, scores, Tensor(), s, on->stream);
    router_choose(biased, scores, bias, s, on->stream);
    router_weights(weights, on->tensor(normals(scores.numel(), "weights", 0.1), scores.shape(), dtype), experts, s,
                   on->stream);
    results.insert(results.end(), {experts, biased, weights});
  }
  for (size_t i = 0; i < 3; ++i) CHECK(same_bits(results[i], results[i + 3]));
}

TEST_CASE("the router of many experts agrees with the CPU's", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  RouterShape s = published_shape(4);
  s.score = GENERATE(RouterScore::kSigmoid, RouterScore::kSoftmax);
  constexpr int64_t kTokens = 19;
  const Shape shape{kTokens, s.num_experts};
  std::vector<std::vector<double>> results;
  for (TestDevice* on : {&device, &cpu}) {
    Tensor scores = on->empty(shape, dtype), d_logits = on->empty(shape, dtype), loss = on->zeros(Shape{1}, dtype);
    Tensor experts = on->empty(Shape{kTokens, s.topk}, DType::kI32);
    Tensor d_scores = on->tensor(normals(shape.numel(), "d_scores"), shape, dtype);
    router_scores(scores, on->tensor(normals(shape.numel(), "logits"), shape, dtype), s, on->stream);
    router_choose(experts, scores, Tensor(), s, on->stream);
    local_balance_loss(loss, d_scores, scores, experts, {0, 5, kTokens}, 0.5, s, on->stream);
    router_backward(d_logits, on->tensor(normals(kTokens * s.topk, "d_weights"), experts.shape(), dtype), d_scores,
                    scores, experts, s, on->stream);
    results.insert(results.end(), {values_of(scores), values_of(loss), values_of(d_scores), values_of(d_logits)});
  }
  for (size_t i = 0; i < 4; ++i) CHECK(relative_error(results[i], results[i + 4]) < forward_bound(dtype));
}

TEST_CASE("groups of any number of experts are chosen as published, and as on the CPU", "[cuda]") {
  TestDevice device;
  struct Groups {
    int64_t experts, groups, best;
  };
  // A lane's experts are a group or a part of it; groups end within a lane's; lanes of a group are no power of two.
  const Groups g = GENERATE(Groups{256, 8, 4}, Groups{256, 4, 1}, Groups{256, 32, 3}, Groups{256, 64, 5},
                            Groups{64, 8, 3}, Groups{32, 32, 7}, Groups{32, 4, 2}, Groups{96, 3, 2}, Groups{160, 8, 3},
                            Groups{24, 6, 5}, Groups{512, 8, 2}, Groups{513, 3, 2});
  const GroupScore score = GENERATE(GroupScore::kTop2Sum, GroupScore::kMax);
  const bool biased = GENERATE(false, true);
  const RouterShape s{.num_experts = g.experts,
                      .topk = std::min<int64_t>(6, g.best * (g.experts / g.groups)),
                      .num_groups = g.groups,
                      .topk_groups = g.best,
                      .group_score = score};
  CAPTURE(g.experts, g.groups, g.best, biased);
  constexpr int64_t kTokens = 9;
  std::vector<double> scores = normals(kTokens * g.experts, "scores"), bias = normals(g.experts, "bias");
  // Few different values: many ties, of groups too.
  for (double& value : scores) value = std::round(2 * value) / 4;
  for (double& value : bias) value = std::round(value) / 4;
  Tensor experts = device.empty(Shape{kTokens, s.topk}, DType::kI32);
  router_choose(experts, device.tensor(scores, Shape{kTokens, g.experts}, DType::kF32),
                biased ? device.tensor(bias, Shape{g.experts}, DType::kF32) : Tensor(), s, device.stream);
  std::vector<int32_t> expected;
  for (int64_t token = 0; token < kTokens; ++token) {
    std::vector<double> values(scores.begin() + token * g.experts, scores.begin() + (token + 1) * g.experts);
    for (size_t e = 0; e < values.size() && biased; ++e) values[e] += bias[e];
    const std::vector<int32_t> best = reference_choice(values, s);
    expected.insert(expected.end(), best.begin(), best.end());
  }
  CHECK(experts.to_vector<int32_t>() == expected);
}

TEST_CASE("the router's gradient is the CPU's for every width of a lane's share", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const int64_t num_experts = GENERATE(32, 100, 128, 256, 384, 512);
  const bool with_scores = GENERATE(false, true);
  const RouterShape s{.num_experts = num_experts,
                      .topk = GENERATE(2, 8, 40) % num_experts,
                      .score = GENERATE(RouterScore::kSigmoid, RouterScore::kSoftmax),
                      .normalize = GENERATE(false, true),
                      .route_scale = 2.5};
  CAPTURE(num_experts, s.topk, with_scores, s.normalize);
  constexpr int64_t kTokens = 11;
  const Shape shape{kTokens, num_experts};
  std::vector<std::vector<double>> results;
  for (TestDevice* on : {&device, &cpu}) {
    Tensor scores = on->empty(shape, DType::kF32), d_logits = on->empty(shape, DType::kF32);
    Tensor experts = on->empty(Shape{kTokens, s.topk}, DType::kI32);
    router_scores(scores, on->tensor(normals(shape.numel(), "logits"), shape, DType::kF32), s, on->stream);
    router_choose(experts, scores, Tensor(), s, on->stream);
    router_backward(d_logits, on->tensor(normals(kTokens * s.topk, "d_weights"), experts.shape(), DType::kF32),
                    with_scores ? on->tensor(normals(shape.numel(), "d_scores"), shape, DType::kF32) : Tensor(), scores,
                    experts, s, on->stream);
    results.push_back(values_of(d_logits));
  }
  CHECK(relative_error(results[0], results[1]) < 2 * forward_bound(DType::kF32));  // the scores' exponentials differ
}

TEST_CASE("the best of any number of experts are chosen, equals by their ids", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const int64_t num_experts = GENERATE(1, 31, 32, 33, 64, 100, 128, 129, 256, 300, 512, 513);
  const bool biased = GENERATE(false, true);
  const RouterShape s{.num_experts = num_experts, .topk = std::min<int64_t>(num_experts, GENERATE(1, 8, 40))};
  CAPTURE(name_of(dtype), num_experts, s.topk, biased);
  constexpr int64_t kTokens = 11;
  std::vector<double> scores = normals(kTokens * num_experts, "scores"), bias = normals(num_experts, "bias");
  // Few different values, both zeros and infinities among them.
  for (double& value : scores) value = std::round(value) / 2;
  for (double& value : bias) value = std::round(value) / 2;
  scores[0] = -0.0;
  scores.back() = -std::numeric_limits<double>::infinity();
  scores[scores.size() / 2] = std::numeric_limits<double>::infinity();
  Tensor experts = device.empty(Shape{kTokens, s.topk}, DType::kI32);
  router_choose(experts, device.tensor(scores, Shape{kTokens, num_experts}, dtype),
                biased ? device.tensor(bias, Shape{num_experts}, DType::kF32) : Tensor(), s, device.stream);
  std::vector<int32_t> expected;
  for (int64_t token = 0; token < kTokens; ++token) {
    std::vector<double> values(scores.begin() + token * num_experts, scores.begin() + (token + 1) * num_experts);
    for (size_t e = 0; e < values.size() && biased; ++e) values[e] += bias[e];
    const std::vector<int32_t> best = best_ids(values, s.topk);
    expected.insert(expected.end(), best.begin(), best.end());
  }
  CHECK(experts.to_vector<int32_t>() == expected);
}

TEST_CASE("the router gives the same bits on any thread count", "[cuda]") {
  TestDevice device;
  const RouterShape s = published_shape(GENERATE(0, 1));
  constexpr int64_t kTokens = 2001;
  Tensor logits = device.tensor(normals(kTokens * s.num_experts, "logits"), Shape{kTokens, s.num_experts}, DType::kF32);
  Tensor d_weights = device.tensor(normals(kTokens * s.topk, "d_weights"), Shape{kTokens, s.topk}, DType::kF32);
  std::vector<std::vector<Tensor>> runs;
  for (const int threads : {1, 2, 3}) {
    const ThreadCount count(threads);
    Tensor scores = device.empty(logits.shape(), DType::kF32), experts = device.empty(d_weights.shape(), DType::kI32);
    Tensor d_scores = device.zeros(logits.shape(), DType::kF32), d_logits = device.empty(logits.shape(), DType::kF32);
    Tensor loss = device.zeros(Shape{1}, DType::kF32);
    router_scores(scores, logits, s, device.stream);
    router_choose(experts, scores, Tensor(), s, device.stream);
    local_balance_loss(loss, d_scores, scores, experts, {0, kTokens}, 1, s, device.stream);
    router_backward(d_logits, d_weights, d_scores, scores, experts, s, device.stream);
    runs.push_back({scores, experts, loss, d_scores, d_logits});
  }
  for (size_t run = 1; run < runs.size(); ++run) {
    for (size_t i = 0; i < runs[0].size(); ++i) CHECK(same_bits(runs[run][i], runs[0][i]));
  }
}

TEST_CASE("the router accepts no tokens and explains what does not fit", "[cuda]") {
  TestDevice device;
  const RouterShape s{.num_experts = 4, .topk = 2};
  Tensor none = device.empty(Shape{0, 4}, DType::kF32), no_weights = device.empty(Shape{0, 2}, DType::kF32);
  Tensor no_experts = device.empty(Shape{0, 2}, DType::kI32), loss = device.zeros(Shape{1}, DType::kF32);
  router_scores(none, none, s, device.stream);
  router_choose(no_experts, none, Tensor(), s, device.stream);
  router_weights(no_weights, none, no_experts, s, device.stream);
  router_backward(none, no_weights, none, none, no_experts, s, device.stream);
  local_balance_loss(loss, none, none, no_experts, {0, 0}, 1, s, device.stream);
  CHECK(values_of(loss)[0] == 0);

  Tensor scores = device.zeros(Shape{2, 4}, DType::kF32);
  Tensor experts = device.indices({0, 1, 2, 3}, Shape{2, 2});
  CHECK_THROWS_WITH(
      router_choose(experts, scores, Tensor(), {.num_experts = 4, .topk = 2, .num_groups = 3}, device.stream),
      Contains("4 experts in 3 groups"));
  CHECK_THROWS_WITH(router_choose(experts, scores, Tensor(),
                                  {.num_experts = 4, .topk = 2, .num_groups = 4, .topk_groups = 1}, device.stream),
                    Contains("a token chooses 2 experts among the 1 of its groups"));
  Tensor counts = device.zeros(Shape{1, 4}, DType::kI64);
  CHECK_THROWS_WITH(balance_counts(counts, experts, {0, 1}, s, device.stream),
                    Contains("runs must cover the 2 tokens"));
  CHECK_THROWS_WITH(balance_counts(counts, experts, {0, 1, 2}, s, device.stream), Contains("[1, 4] vs [2, 4]"));
  CHECK_THROWS_WITH(balance_counts(device.zeros(Shape{1, 4}, DType::kI32), experts, {0, 2}, s, device.stream),
                    Contains("found i32, expected i64"));
  balance_counts(counts, experts, {0, 2}, s, device.stream);
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 1}, {2}, 1, s, device.stream),
                    Contains("runs must cover the 2 tokens"));
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 2}, {1}, 1, s, device.stream),
                    Contains("run 0 has 2 tokens here, 1 in all"));
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 2}, {2, 0}, 1, s, device.stream),
                    Contains("2 vs 1"));
}

TEST_CASE("a CPU refuses experts that cannot be, and counts that nobody summed") {
  TestDevice cpu(DeviceKind::kCpu);
  const RouterShape s{.num_experts = 4, .topk = 2};
  Tensor scores = cpu.zeros(Shape{2, 4}, DType::kF32), weights = cpu.zeros(Shape{2, 2}, DType::kF32);
  Tensor counts = cpu.zeros(Shape{1, 4}, DType::kI64), loss = cpu.zeros(Shape{1}, DType::kF32);
  CHECK_THROWS_WITH(router_weights(weights, scores, cpu.indices({0, 1, 2, 4}, Shape{2, 2}), s, cpu.stream),
                    Contains("token 1, choice 1: expert 4 where ids must ascend within 0 to 3"));
  CHECK_THROWS_WITH(router_weights(weights, scores, cpu.indices({1, 1, 2, 3}, Shape{2, 2}), s, cpu.stream),
                    Contains("token 0, choice 1: expert 1"));
  CHECK_THROWS_WITH(balance_counts(counts, cpu.indices({0, 1, 2, 4}, Shape{2, 2}), {0, 2}, s, cpu.stream),
                    Contains("token 1, choice 1: expert 4"));
  balance_counts(counts, cpu.indices({0, 1, 2, 3}, Shape{2, 2}), {0, 2}, s, cpu.stream);
  CHECK_THROWS_WITH(balance_loss(loss, scores, scores, counts, {0, 2}, {3}, 1, s, cpu.stream),
                    Contains("a run of 3 tokens has 4 choices, expected 6"));
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
