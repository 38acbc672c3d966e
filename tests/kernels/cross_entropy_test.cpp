// tests/kernels/cross_entropy_test.cpp: losses and logit gradients against plain loops in double.
#include "kernels/cross_entropy.h"

#include <catch2/catch.hpp>

#include <limits>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

struct Reference {
  std::vector<double> losses, d_logits;
};

Reference reference(const std::vector<double>& logits, const std::vector<int32_t>& targets, double scale) {
  Reference r;
  const size_t vocab = logits.size() / targets.size();
  for (size_t row = 0; row < targets.size(); ++row) {
    const double* x = logits.data() + row * vocab;
    double sum = 0;
    const double max = *std::max_element(x, x + vocab);
    for (size_t i = 0; i < vocab; ++i) sum += std::exp(x[i] - max);
    const bool masked = targets[row] < 0;
    r.losses.push_back(masked ? 0 : max + std::log(sum) - x[targets[row]]);
    for (size_t i = 0; i < vocab; ++i) {
      const double onehot = static_cast<int32_t>(i) == targets[row] ? 1 : 0;
      r.d_logits.push_back(masked ? 0 : scale * (std::exp(x[i] - max) / sum - onehot));
    }
  }
  return r;
}

TEST_CASE("cross entropy agrees with plain loops in double", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const DType gradient = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t vocab = GENERATE(1, 13, 2048, 5003, 33000);  // the last: more than a block keeps
  CAPTURE(name_of(dtype), name_of(gradient), vocab);
  const std::vector<int32_t> targets = {0, -1, static_cast<int32_t>(vocab - 1), static_cast<int32_t>(vocab / 2)};
  const int64_t rows = static_cast<int64_t>(targets.size());
  std::vector<double> values = normals(rows * vocab, "logits", 3);
  for (double& value : values) value += 50;  // a common offset changes nothing but may overflow a careless exp
  Tensor logits = device.tensor(values, Shape{rows, vocab}, dtype), ids = device.indices(targets, Shape{rows});
  const Reference r = reference(values_of(logits), targets, 0.125);

  Tensor losses = device.empty(Shape{rows}, dtype), again = device.empty(Shape{rows}, dtype);
  Tensor d_logits = device.empty(logits.shape(), gradient);
  cross_entropy_forward(losses, logits, ids, device.stream);
  cross_entropy_forward_backward(again, d_logits, logits, ids, 0.125, device.stream);
  CHECK(same_bits(losses, again));
  const DType coarser = gradient == DType::kBF16 || dtype == DType::kF64 ? gradient : dtype;
  if (vocab > 1) {
    CHECK(relative_error(values_of(losses), r.losses) < (dtype == DType::kF64 ? 1e-13 : 1e-6));
    CHECK(relative_error(values_of(d_logits), r.d_logits) < forward_bound(coarser));
  } else {
    CHECK(values_of(losses) == std::vector<double>{0, 0, 0, 0});
    CHECK(values_of(d_logits) == std::vector<double>{0, 0, 0, 0});
  }

  if (gradient == dtype) {
    Tensor in_place = device.tensor(values_of(logits), logits.shape(), dtype);
    const ThreadCount one(1);
    cross_entropy_forward_backward(again, in_place, in_place, ids, 0.125, device.stream);
    CHECK(same_bits(in_place, d_logits));
    CHECK(same_bits(losses, again));
  }
}

TEST_CASE("cross entropy's gradient agrees with central differences", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const Shape shape{3, 7};
  Tensor targets = device.indices({6, -1, 2}, Shape{3}), losses = device.empty(Shape{3}, dtype);
  const auto loss = [&](const std::vector<double>& values) {
    cross_entropy_forward(losses, device.tensor(values, shape, dtype), targets, device.stream);
    return 0.5 * dot(values_of(losses), {1, 1, 1});
  };
  const std::vector<double> at = normals(21, "logits");
  const auto expected = numerical_gradient(loss, at, gradient_step(dtype));
  Tensor d_logits = device.tensor(at, shape, dtype);
  cross_entropy_forward_backward(losses, d_logits, d_logits, targets, 0.5, device.stream);
  CHECK(relative_error(values_of(d_logits), expected) < gradient_bound(dtype));
}

TEST_CASE("cross entropy survives logits of -Inf and shows NaN", "[cuda]") {
  TestDevice device;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<double> values(5000, -kInf);  // more than one block before the first finite logit
  values[4990] = 1;
  values[4999] = 1;
  Tensor losses = device.empty(Shape{1}, DType::kF32), d_logits = device.empty(Shape{1, 5000}, DType::kF32);
  Tensor target = device.indices({4999}, Shape{1});
  cross_entropy_forward_backward(losses, d_logits, device.tensor(values, Shape{1, 5000}, DType::kF32), target, 1,
                                 device.stream);
  CHECK(values_of(losses)[0] == Approx(std::log(2.0)));
  CHECK(values_of(d_logits)[0] == 0);
  CHECK(values_of(d_logits)[4990] == Approx(0.5));
  CHECK(values_of(d_logits)[4999] == Approx(-0.5));
  values[17] = std::numeric_limits<double>::quiet_NaN();
  cross_entropy_forward(losses, device.tensor(values, Shape{1, 5000}, DType::kF32), target, device.stream);
  CHECK(std::isnan(values_of(losses)[0]));
}

// Every rank's ops in turn, the statistics gathered by writing them into one tensor.
struct SplitResult {
  std::vector<Tensor> losses;  // one per rank
  Tensor d_logits;             // [rows, vocab] f64, the ranks' columns side by side
};

SplitResult split_cross_entropy(TestDevice& device, const std::vector<double>& values,
                                const std::vector<int32_t>& targets, const std::vector<int64_t>& cuts, DType dtype,
                                DType gradient, double scale) {
  const int64_t rows = static_cast<int64_t>(targets.size()), vocab = cuts.back();
  const int64_t ranks = static_cast<int64_t>(cuts.size()) - 1;
  Tensor logits = device.tensor(values, Shape{rows, vocab}, dtype), ids = device.indices(targets, Shape{rows});
  Tensor statistics = device.empty(Shape{ranks, rows, 3}, DType::kF64);
  SplitResult result;
  std::vector<double> d_logits(static_cast<size_t>(rows * vocab));
  std::vector<Tensor> shards;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const int64_t begin = cuts[static_cast<size_t>(rank)], count = cuts[static_cast<size_t>(rank + 1)] - begin;
    shards.push_back(device.tensor(values_of(logits.columns(begin, count)), Shape{rows, count}, dtype));
    cross_entropy_statistics(statistics[rank], shards.back(), ids, {begin, vocab}, device.stream);
  }
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const int64_t begin = cuts[static_cast<size_t>(rank)];
    const Tensor& shard = shards[static_cast<size_t>(rank)];
    Tensor losses = device.empty(Shape{rows}, dtype), alone = device.empty(Shape{rows}, dtype);
    Tensor d_shard = gradient == dtype ? shard : device.empty(shard.shape(), gradient);  // in place where it may be
    cross_entropy_from_statistics(alone, Tensor(), shard, ids, statistics, {begin, vocab}, scale, device.stream);
    cross_entropy_from_statistics(losses, d_shard, shard, ids, statistics, {begin, vocab}, scale, device.stream);
    CHECK(same_bits(losses, alone));
    result.losses.push_back(losses);
    const std::vector<double> d = values_of(d_shard);
    for (size_t i = 0; i < d.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / shard.size(1), column = static_cast<int64_t>(i) % shard.size(1);
      d_logits[static_cast<size_t>(row * vocab + begin + column)] = d[i];
    }
  }
  result.d_logits = device.tensor(d_logits, Shape{rows, vocab}, DType::kF64);
  return result;
}

TEST_CASE("cross entropy of split columns agrees with plain loops in double, bitwise alike on all ranks", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const DType gradient = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const std::vector<int64_t> cuts = GENERATE(std::vector<int64_t>{0, 5003}, std::vector<int64_t>{0, 2777, 5003},
                                             std::vector<int64_t>{0, 1, 2500, 5003},
                                             std::vector<int64_t>{0, 0, 7, 13, 13}, std::vector<int64_t>{0, 5, 13});
  const double spread = GENERATE(3.0, 0.0);  // 0: all logits are equal
  CAPTURE(name_of(dtype), name_of(gradient), cuts, spread);
  const int64_t vocab = cuts.back();
  const std::vector<int32_t> targets = {0, -1, static_cast<int32_t>(vocab - 1), static_cast<int32_t>(vocab / 2), 6};
  const int64_t rows = static_cast<int64_t>(targets.size());
  std::vector<double> values = normals(rows * vocab, "logits", spread);
  for (double& value : values) value += 50;
  Tensor logits = device.tensor(values, Shape{rows, vocab}, dtype), ids = device.indices(targets, Shape{rows});
  const Reference r = reference(values_of(logits), targets, 0.125);

  const SplitResult split = split_cross_entropy(device, values, targets, cuts, dtype, gradient, 0.125);
  for (const Tensor& losses : split.losses) CHECK(same_bits(losses, split.losses[0]));
  const DType coarser = gradient == DType::kBF16 || dtype == DType::kF64 ? gradient : dtype;
  CHECK(relative_error(values_of(split.losses[0]), r.losses) < (dtype == DType::kF64 ? 1e-13 : 1e-6));
  CHECK(relative_error(values_of(split.d_logits), r.d_logits) < forward_bound(coarser));
  CHECK(values_of(split.losses[0])[1] == 0);
  CHECK(same_bits(split.d_logits[1], device.zeros(Shape{vocab}, DType::kF64)));

  Tensor losses = device.empty(Shape{rows}, dtype), d_logits = device.empty(logits.shape(), gradient);
  cross_entropy_forward_backward(losses, d_logits, logits, ids, 0.125, device.stream);
  CHECK(relative_error(values_of(split.losses[0]), values_of(losses)) < (dtype == DType::kF64 ? 1e-13 : 1e-6));
  CHECK(relative_error(values_of(split.d_logits), values_of(d_logits)) < forward_bound(coarser));

  const ThreadCount one(1);
  const SplitResult again = split_cross_entropy(device, values, targets, cuts, dtype, gradient, 0.125);
  CHECK(same_bits(again.losses[0], split.losses[0]));
  CHECK(same_bits(again.d_logits, split.d_logits));
}

TEST_CASE("cross entropy of split columns survives far apart logits", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const std::vector<int64_t> cuts = GENERATE(std::vector<int64_t>{0, 4}, std::vector<int64_t>{0, 1, 4},
                                             std::vector<int64_t>{0, 2, 2, 4}, std::vector<int64_t>{0, 3, 4});
  CAPTURE(name_of(dtype), cuts);
  const std::vector<double> values = {1e4, -1e4, -1e4, -1e4, -1e4, -1e4, 1e4, 1e4, -1e4, -1e4, -1e4, -1e4};
  const std::vector<int32_t> targets = {1, 3, 0};
  const SplitResult split = split_cross_entropy(device, values, targets, cuts, dtype, DType::kF32, 1);
  const Reference r = reference(values, targets, 1);
  const std::vector<double> losses = values_of(split.losses[0]), d_logits = values_of(split.d_logits);
  for (size_t i = 0; i < losses.size(); ++i) CHECK(losses[i] == Approx(r.losses[i]));
  for (size_t i = 0; i < d_logits.size(); ++i) CHECK(d_logits[i] == Approx(r.d_logits[i]));
}

TEST_CASE("the gradient of split cross entropy agrees with central differences", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const std::vector<int64_t> cuts = {0, 2, 7};
  const std::vector<int32_t> targets = {6, -1, 1};
  const auto loss = [&](const std::vector<double>& values) {
    const SplitResult split = split_cross_entropy(device, values, targets, cuts, dtype, dtype, 0.5);
    return 0.5 * dot(values_of(split.losses[0]), {1, 1, 1});
  };
  const std::vector<double> at = normals(21, "logits");
  const auto expected = numerical_gradient(loss, at, gradient_step(dtype));
  const SplitResult split = split_cross_entropy(device, at, targets, cuts, dtype, dtype, 0.5);
  CHECK(relative_error(values_of(split.d_logits), expected) < gradient_bound(dtype));
}

TEST_CASE("the statistics of a shard are its maximum, its sum, and the logit of its target", "[cuda]") {
  TestDevice device;
  Tensor logits = device.tensor({1, 3, 2, 5, 5, 5}, Shape{2, 3}, DType::kF32),
         statistics = device.empty(Shape{2, 3}, DType::kF64);
  cross_entropy_statistics(statistics, logits, device.indices({4, 3}, Shape{2}), {4, 9}, device.stream);
  const std::vector<double> taken = values_of(statistics);
  CHECK(taken[0] == 3);
  CHECK(taken[1] == Approx(1 + std::exp(-1.0) + std::exp(-2.0)));
  CHECK(taken[2] == 1);
  CHECK(std::vector<double>(taken.begin() + 3, taken.end()) == std::vector<double>{5, 3, 0});
  cross_entropy_statistics(statistics, device.empty(Shape{2, 0}, DType::kF32), device.indices({4, -1}, Shape{2}),
                           {9, 9}, device.stream);
  const double lowest = std::numeric_limits<double>::lowest();
  CHECK(values_of(statistics) == std::vector<double>{lowest, 0, 0, lowest, 0, 0});
}

TEST_CASE("split cross entropy accepts no rows and explains what does not fit", "[cuda]") {
  TestDevice device;
  const VocabShard shard{.first_id = 4, .vocab = 9};
  Tensor none = device.empty(Shape{0, 4}, DType::kF32), no_losses = device.empty(Shape{0}, DType::kF32);
  Tensor no_targets = device.indices({}, Shape{0});
  cross_entropy_statistics(device.empty(Shape{0, 3}, DType::kF64), none, no_targets, shard, device.stream);
  cross_entropy_from_statistics(no_losses, none, none, no_targets, device.empty(Shape{2, 0, 3}, DType::kF64), shard, 1,
                                device.stream);

  Tensor logits = device.zeros(Shape{2, 4}, DType::kF32), losses = device.zeros(Shape{2}, DType::kF32);
  Tensor statistics = device.zeros(Shape{2, 3}, DType::kF64), targets = device.indices({8, -1}, Shape{2});
  CHECK_THROWS_WITH(cross_entropy_statistics(statistics, logits, targets, {6, 9}, device.stream),
                    Contains("ids [6, 10) of a vocabulary of 9"));
  CHECK_THROWS_WITH(
      cross_entropy_statistics(device.zeros(Shape{2, 3}, DType::kF32), logits, targets, shard, device.stream),
      Contains("found f32, expected f64"));
  CHECK_THROWS_WITH(cross_entropy_from_statistics(losses, logits, logits, targets, statistics, shard, 1, device.stream),
                    Contains("statistics is [2, 3], expected [ranks, rows, 3]"));
  CHECK_THROWS_WITH(cross_entropy_from_statistics(losses, logits, logits, targets,
                                                  device.zeros(Shape{2, 3, 3}, DType::kF64), shard, 1, device.stream),
                    Contains("[2, 3, 3] vs [2, 2, 3]"));
  CHECK_THROWS_WITH(cross_entropy_from_statistics(losses, none, logits, targets, statistics.reshape(Shape{1, 2, 3}),
                                                  shard, 1, device.stream),
                    Contains("[0, 4] vs [2, 4]"));
}

TEST_CASE("cross entropy accepts no rows, and logits in f32 or f64 only", "[cuda]") {
  TestDevice device;
  Tensor none = device.empty(Shape{0, 4}, DType::kF32), no_losses = device.empty(Shape{0}, DType::kF32);
  cross_entropy_forward_backward(no_losses, none, none, device.indices({}, Shape{0}), 1, device.stream);
  Tensor losses = device.zeros(Shape{2}, DType::kF32);
  CHECK_THROWS_WITH(cross_entropy_forward(losses, device.zeros(Shape{2, 4}, DType::kBF16),
                                          device.indices({0, 0}, Shape{2}), device.stream),
                    Contains("logits are bf16, expected f32 or f64"));
}

TEST_CASE("a CPU names the row of a target outside the logits") {
  TestDevice cpu(DeviceKind::kCpu);
  Tensor logits = cpu.zeros(Shape{2, 4}, DType::kF32), losses = cpu.zeros(Shape{2}, DType::kF32);
  CHECK_THROWS_WITH(cross_entropy_forward(losses, logits, cpu.indices({3, 4}, Shape{2}), cpu.stream),
                    Contains("row 1 has target id 4, but the logits cover ids 0 to 3"));
  CHECK_THROWS_WITH(cross_entropy_forward(losses, logits, cpu.indices({-2, 0}, Shape{2}), cpu.stream),
                    Contains("row 0 has target id -2"));
  Tensor statistics = cpu.zeros(Shape{2, 3}, DType::kF64);
  CHECK_THROWS_WITH(cross_entropy_statistics(statistics, logits, cpu.indices({8, 9}, Shape{2}), {4, 9}, cpu.stream),
                    Contains("row 1 has target id 9, but the logits cover ids 0 to 8"));
}

TEST_CASE("cross entropy touches nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  Tensor logits = simulated.empty(Shape{2, 4}, DType::kF32), losses = simulated.empty(Shape{2}, DType::kF32);
  Tensor targets = simulated.empty(Shape{2}, DType::kI32), d_logits = simulated.empty(Shape{2, 4}, DType::kBF16);
  cross_entropy_forward(losses, logits, targets, simulated.stream);
  cross_entropy_forward_backward(losses, d_logits, logits, targets, 1, simulated.stream);
  CHECK(simulated.stream.work().at("cross_entropy.forward").bytes == 32 + 8 + 8);
  Tensor statistics = simulated.empty(Shape{2, 2, 3}, DType::kF64);
  cross_entropy_statistics(statistics[0], logits, targets, {0, 8}, simulated.stream);
  cross_entropy_from_statistics(losses, d_logits, logits, targets, statistics, {0, 8}, 1, simulated.stream);
  CHECK(simulated.stream.work().at("cross_entropy.statistics").bytes == 48 + 32 + 8);
  CHECK(simulated.stream.work().at("cross_entropy.from_statistics").bytes == 8 + 8 + 96 + 16 + 32);
  CHECK(simulated.stream.work().at("cross_entropy.forward_backward").bytes == 32 + 8 + 8 + 16);
}

}  // namespace
}  // namespace shoal
