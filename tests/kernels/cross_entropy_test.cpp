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

TEST_CASE("cross entropy agrees with plain loops in double") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const DType gradient = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const int64_t vocab = GENERATE(1, 13, 2048, 5003);
  CAPTURE(name_of(dtype), name_of(gradient), vocab);
  const std::vector<int32_t> targets = {0, -1, static_cast<int32_t>(vocab - 1), static_cast<int32_t>(vocab / 2)};
  const int64_t rows = static_cast<int64_t>(targets.size());
  std::vector<double> values = normals(rows * vocab, "logits", 3);
  for (double& value : values) value += 50;  // a common offset changes nothing but may overflow a careless exp
  Tensor logits = cpu.tensor(values, Shape{rows, vocab}, dtype), ids = cpu.indices(targets, Shape{rows});
  const Reference r = reference(values_of(logits), targets, 0.125);

  Tensor losses = cpu.empty(Shape{rows}, dtype), again = cpu.empty(Shape{rows}, dtype);
  Tensor d_logits = cpu.empty(logits.shape(), gradient);
  cross_entropy_forward(losses, logits, ids, cpu.stream);
  cross_entropy_forward_backward(again, d_logits, logits, ids, 0.125, cpu.stream);
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
    Tensor in_place = cpu.tensor(values_of(logits), logits.shape(), dtype);
    const ThreadCount one(1);
    cross_entropy_forward_backward(again, in_place, in_place, ids, 0.125, cpu.stream);
    CHECK(same_bits(in_place, d_logits));
    CHECK(same_bits(losses, again));
  }
}

TEST_CASE("cross entropy's gradient agrees with central differences") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const Shape shape{3, 7};
  Tensor targets = cpu.indices({6, -1, 2}, Shape{3}), losses = cpu.empty(Shape{3}, dtype);
  const auto loss = [&](const std::vector<double>& values) {
    cross_entropy_forward(losses, cpu.tensor(values, shape, dtype), targets, cpu.stream);
    return 0.5 * dot(values_of(losses), {1, 1, 1});
  };
  const std::vector<double> at = normals(21, "logits");
  const auto expected = numerical_gradient(loss, at, gradient_step(dtype));
  Tensor d_logits = cpu.tensor(at, shape, dtype);
  cross_entropy_forward_backward(losses, d_logits, d_logits, targets, 0.5, cpu.stream);
  CHECK(relative_error(values_of(d_logits), expected) < gradient_bound(dtype));
}

TEST_CASE("cross entropy survives logits of -Inf and shows NaN") {
  TestDevice cpu;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<double> values(5000, -kInf);  // more than one block before the first finite logit
  values[4990] = 1;
  values[4999] = 1;
  Tensor losses = cpu.empty(Shape{1}, DType::kF32), d_logits = cpu.empty(Shape{1, 5000}, DType::kF32);
  Tensor target = cpu.indices({4999}, Shape{1});
  cross_entropy_forward_backward(losses, d_logits, cpu.tensor(values, Shape{1, 5000}, DType::kF32), target, 1,
                                 cpu.stream);
  CHECK(values_of(losses)[0] == Approx(std::log(2.0)));
  CHECK(values_of(d_logits)[0] == 0);
  CHECK(values_of(d_logits)[4990] == Approx(0.5));
  CHECK(values_of(d_logits)[4999] == Approx(-0.5));
  values[17] = std::numeric_limits<double>::quiet_NaN();
  cross_entropy_forward(losses, cpu.tensor(values, Shape{1, 5000}, DType::kF32), target, cpu.stream);
  CHECK(std::isnan(values_of(losses)[0]));
}

TEST_CASE("cross entropy accepts no rows and names the row of a target outside the logits") {
  TestDevice cpu;
  Tensor none = cpu.empty(Shape{0, 4}, DType::kF32), no_losses = cpu.empty(Shape{0}, DType::kF32);
  cross_entropy_forward_backward(no_losses, none, none, cpu.indices({}, Shape{0}), 1, cpu.stream);
  Tensor logits = cpu.zeros(Shape{2, 4}, DType::kF32), losses = cpu.zeros(Shape{2}, DType::kF32);
  CHECK_THROWS_WITH(cross_entropy_forward(losses, logits, cpu.indices({3, 4}, Shape{2}), cpu.stream),
                    Contains("row 1 has target id 4, but the logits cover ids 0 to 3"));
  CHECK_THROWS_WITH(cross_entropy_forward(losses, logits, cpu.indices({-2, 0}, Shape{2}), cpu.stream),
                    Contains("row 0 has target id -2"));
  CHECK_THROWS_WITH(
      cross_entropy_forward(losses, cpu.zeros(Shape{2, 4}, DType::kBF16), cpu.indices({0, 0}, Shape{2}), cpu.stream),
      Contains("logits are bf16, expected f32 or f64"));
}

TEST_CASE("cross entropy touches nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  Tensor logits = simulated.empty(Shape{2, 4}, DType::kF32), losses = simulated.empty(Shape{2}, DType::kF32);
  Tensor targets = simulated.empty(Shape{2}, DType::kI32), d_logits = simulated.empty(Shape{2, 4}, DType::kBF16);
  cross_entropy_forward(losses, logits, targets, simulated.stream);
  cross_entropy_forward_backward(losses, d_logits, logits, targets, 1, simulated.stream);
  CHECK(simulated.stream.work().at("cross_entropy.forward").bytes == 32 + 8 + 8);
  CHECK(simulated.stream.work().at("cross_entropy.forward_backward").bytes == 32 + 8 + 8 + 16);
}

}  // namespace
}  // namespace shoal
