// tests/kernels/adamw_test.cpp: AdamW against the paper's update in double, over several steps.
#include "kernels/adamw.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

struct Reference {
  std::vector<double> master, m, v;

  void step(const std::vector<double>& grad, const AdamwStep& s) {
    for (size_t i = 0; i < master.size(); ++i) {
      const double g = grad[i] * s.grad_scale;
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
      const double m_hat = m[i] / (1 - std::pow(s.beta1, static_cast<double>(s.step)));
      const double v_hat = v[i] / (1 - std::pow(s.beta2, static_cast<double>(s.step)));
      master[i] -= s.lr * s.weight_decay * master[i];
      master[i] -= s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
    }
  }
};

AdamwStep step_number(int64_t step) {
  return {.lr = 3e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_scale = 0.25, .step = step};
}

TEST_CASE("adamw follows the paper's update over several steps", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const bool small_moments = GENERATE(false, true), small_weight = GENERATE(false, true);
  const int64_t numel = GENERATE(1, 1003, 40001);
  if (dtype == DType::kF64 && (small_moments || small_weight)) return;
  CAPTURE(name_of(dtype), small_moments, small_weight, numel);
  const DType moments = small_moments ? DType::kBF16 : dtype;
  const Shape shape{numel};
  Tensor master = device.tensor(normals(numel, "master"), shape, dtype), grad = device.empty(shape, dtype);
  Tensor m = device.zeros(shape, moments), v = device.zeros(shape, moments);
  Tensor weight = device.empty(shape, small_weight ? DType::kBF16 : dtype);
  Reference r{values_of(master), values_of(m), values_of(v)};
  const std::vector<double> start = r.master;
  for (int64_t step = 1; step <= 4; ++step) {
    const Tensor next = device.tensor(normals(numel, "grad" + std::to_string(step)), shape, dtype);
    adamw(master, m, v, weight, next, step_number(step), device.stream);
    r.step(values_of(next), step_number(step));
  }
  const double moment_bound = small_moments ? 1e-2 : forward_bound(dtype);
  CHECK(relative_error(values_of(m), r.m) < moment_bound);
  CHECK(relative_error(values_of(v), r.v) < moment_bound);
  std::vector<double> moved = values_of(master), expected = r.master;  // the update alone, not hidden behind the weight
  for (size_t i = 0; i < moved.size(); ++i) moved[i] -= start[i];
  for (size_t i = 0; i < moved.size(); ++i) expected[i] -= start[i];
  CHECK(relative_error(moved, expected) < (small_moments ? 1e-2 : dtype == DType::kF64 ? 1e-12 : 1e-5));
  CHECK(same_bits(weight, device.tensor(values_of(master), shape, weight.dtype())));
}

TEST_CASE("adamw gives the same bits on any thread count, without a weight, and when the weight is the master",
          "[cuda]") {
  TestDevice device;
  constexpr int64_t kNumel = 70001;
  const DType moments = GENERATE(DType::kF32, DType::kBF16);
  const Shape shape{kNumel};
  const std::vector<double> start = normals(kNumel, "master");
  Tensor grad = device.tensor(normals(kNumel, "grad"), shape, DType::kF32);
  struct State {
    Tensor master, m, v;
  };
  std::vector<State> runs;
  for (int run = 0; run < 3; ++run) {
    State s{device.tensor(start, shape, DType::kF32), device.zeros(shape, moments), device.zeros(shape, moments)};
    const ThreadCount threads(run == 0 ? 2 : 1);
    for (int64_t step = 1; step <= 2; ++step) {
      const Tensor weight = run == 0 ? device.empty(shape, DType::kBF16) : run == 1 ? Tensor() : s.master;
      adamw(s.master, s.m, s.v, weight, grad, step_number(step), device.stream);
    }
    runs.push_back(s);
  }
  for (size_t run = 1; run < runs.size(); ++run) {
    CHECK(same_bits(runs[run].master, runs[0].master));
    CHECK(same_bits(runs[run].m, runs[0].m));
    CHECK(same_bits(runs[run].v, runs[0].v));
  }
}

TEST_CASE("adamw has the same bits on every device", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const bool small_moments = GENERATE(false, true), small_weight = GENERATE(false, true);
  const int64_t numel = GENERATE(0, 1000, 1003), before = GENERATE(0, 1);  // elements in front of the shard
  if (dtype == DType::kF64 && (small_moments || small_weight)) return;
  CAPTURE(name_of(dtype), small_moments, small_weight, numel, before);
  const Shape shape{numel + before};
  const DType moments = small_moments ? DType::kBF16 : dtype;
  std::vector<Tensor> results;
  for (TestDevice* on : {&device, &cpu}) {
    Tensor master = on->tensor(normals(shape.numel(), "master"), shape, dtype);
    Tensor m = on->zeros(shape, moments), v = on->zeros(shape, moments);
    Tensor weight = on->zeros(shape, small_weight ? DType::kBF16 : dtype);
    const auto shard = [&](const Tensor& tensor) { return tensor.rows(before, numel); };
    for (int64_t step = 1; step <= 3; ++step) {
      Tensor grad = on->tensor(normals(shape.numel(), "grad" + std::to_string(step)), shape, dtype);
      adamw(shard(master), shard(m), shard(v), shard(weight), shard(grad), step_number(step), on->stream);
    }
    results.insert(results.end(), {master, m, v, weight});
  }
  for (size_t i = 0; i < 4; ++i) CHECK(same_bits(results[i], results[i + 4]));
}

TEST_CASE("a zero gradient leaves only weight decay", "[cuda]") {
  TestDevice device;
  Tensor master = device.tensor({2, -4}, Shape{2}, DType::kF64), grad = device.zeros(Shape{2}, DType::kF64);
  Tensor m = device.zeros(Shape{2}, DType::kF64), v = device.zeros(Shape{2}, DType::kF64);
  adamw(master, m, v, Tensor(), grad, {.lr = 0.5, .weight_decay = 0.5, .step = 1}, device.stream);
  CHECK(values_of(master) == std::vector<double>{1.5, -3});
}

TEST_CASE("adamw accepts an empty shard, refuses what does not fit, and touches nothing on a simulated device") {
  TestDevice cpu(DeviceKind::kCpu), simulated(DeviceKind::kSimulated);
  Tensor none = cpu.empty(Shape{0}, DType::kF32);
  adamw(none, none, none, none, none, step_number(1), cpu.stream);

  Tensor x = cpu.zeros(Shape{4}, DType::kF32);
  CHECK_THROWS_WITH(adamw(x, x, x, x, cpu.zeros(Shape{5}, DType::kF32), step_number(1), cpu.stream),
                    Contains("[5] vs [4]"));
  CHECK_THROWS_WITH(adamw(x, x, cpu.zeros(Shape{4}, DType::kBF16), x, x, step_number(1), cpu.stream),
                    Contains("m is f32, v is bf16"));
  CHECK_THROWS_WITH(adamw(x, x, x, x, cpu.zeros(Shape{4}, DType::kBF16), step_number(1), cpu.stream),
                    Contains("found bf16, expected f32"));
  CHECK_THROWS_WITH(adamw(x, x, x, x, x, step_number(0), cpu.stream), Contains("step 0 is counted from 1"));

  Tensor y = simulated.empty(Shape{100}, DType::kF32), weight = simulated.empty(Shape{100}, DType::kBF16);
  adamw(y, y, y, weight, y, step_number(1), simulated.stream);
  CHECK(simulated.stream.work().at("adamw").bytes == 30 * 100);  // 30 bytes a parameter with f32 moments
}

}  // namespace
}  // namespace shoal
