// tests/kernels/swiglu_test.cpp: SwiGLU, with and without row weights, against plain loops in double; its gradients.
#include "kernels/swiglu.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

struct Reference {
  std::vector<double> out, d_gate_up, d_weights;
};

// An empty `weights` is a weight of one for every row.
Reference reference(const std::vector<double>& gate_up, const std::vector<double>& weights,
                    const std::vector<double>& d_out, size_t rows, size_t ffn) {
  Reference r;
  r.d_gate_up.resize(gate_up.size());
  for (size_t row = 0; row < rows; ++row) {
    const double weight = weights.empty() ? 1.0 : weights[row];
    double d_weight = 0;
    for (size_t i = 0; i < ffn; ++i) {
      const double g = gate_up[row * 2 * ffn + i], u = gate_up[row * 2 * ffn + ffn + i], d = d_out[row * ffn + i];
      const double sigmoid = 1 / (1 + std::exp(-g));
      r.out.push_back(weight * g * sigmoid * u);
      r.d_gate_up[row * 2 * ffn + i] = d * weight * u * sigmoid * (1 + g * (1 - sigmoid));
      r.d_gate_up[row * 2 * ffn + ffn + i] = d * weight * g * sigmoid;
      d_weight += d * g * sigmoid * u;
    }
    r.d_weights.push_back(d_weight);
  }
  return r;
}

TEST_CASE("swiglu agrees with plain loops in double", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const bool weighted = GENERATE(false, true);
  const int64_t rows = GENERATE(1, 37), ffn = GENERATE(1, 9, 131);
  CAPTURE(name_of(dtype), weighted, rows, ffn);
  const DType sums = arithmetic_dtype(dtype);
  Tensor gate_up = device.tensor(normals(rows * 2 * ffn, "gate_up", 4), Shape{rows, 2 * ffn}, dtype);
  Tensor d_out = device.tensor(normals(rows * ffn, "d_out"), Shape{rows, ffn}, dtype);
  Tensor weights = device.tensor(normals(rows, "weights"), Shape{rows}, sums);
  const Reference r = reference(values_of(gate_up), weighted ? values_of(weights) : std::vector<double>(),
                                values_of(d_out), static_cast<size_t>(rows), static_cast<size_t>(ffn));
  Tensor out = device.empty(d_out.shape(), dtype), d_gate_up = device.empty(gate_up.shape(), dtype);
  Tensor d_weights = device.empty(Shape{rows}, sums);
  if (weighted) {
    swiglu_weighted_forward(out, gate_up, weights, device.stream);
    swiglu_weighted_backward(d_gate_up, d_weights, d_out, gate_up, weights, device.stream);
    CHECK(relative_error(values_of(d_weights), r.d_weights) < 4 * forward_bound(sums));
  } else {
    swiglu_forward(out, gate_up, device.stream);
    swiglu_backward(d_gate_up, d_out, gate_up, device.stream);
  }
  CHECK(relative_error(values_of(out), r.out) < forward_bound(dtype));
  CHECK(relative_error(values_of(d_gate_up), r.d_gate_up) < forward_bound(dtype));

  // In place of gate_up, and on one thread: the same bits.
  Tensor again = device.tensor(values_of(gate_up), gate_up.shape(), dtype);
  const ThreadCount one(1);
  if (weighted) {
    swiglu_weighted_backward(again, d_weights, d_out, again, weights, device.stream);
  } else {
    swiglu_backward(again, d_out, again, device.stream);
  }
  CHECK(same_bits(again, d_gate_up));
}

TEST_CASE("swiglu's gradients agree with central differences", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  constexpr int64_t kRows = 3, kFfn = 5;
  const std::vector<double> gate_up = normals(kRows * 2 * kFfn, "gate_up"), weights = normals(kRows, "weights");
  Tensor d_out = device.tensor(normals(kRows * kFfn, "d_out"), Shape{kRows, kFfn}, dtype);
  Tensor out = device.empty(d_out.shape(), dtype);
  const auto loss = [&](const std::vector<double>& x, const std::vector<double>& w) {
    swiglu_weighted_forward(out, device.tensor(x, Shape{kRows, 2 * kFfn}, dtype), device.tensor(w, Shape{kRows}, dtype),
                            device.stream);
    return dot(values_of(out), values_of(d_out));
  };
  const double step = gradient_step(dtype);
  const auto d_x = numerical_gradient([&](const std::vector<double>& v) { return loss(v, weights); }, gate_up, step);
  const auto d_w = numerical_gradient([&](const std::vector<double>& v) { return loss(gate_up, v); }, weights, step);
  Tensor d_gate_up = device.tensor(gate_up, Shape{kRows, 2 * kFfn}, dtype),
         d_weights = device.empty(Shape{kRows}, dtype);
  swiglu_weighted_backward(d_gate_up, d_weights, d_out, d_gate_up, device.tensor(weights, Shape{kRows}, dtype),
                           device.stream);
  CHECK(relative_error(values_of(d_gate_up), d_x) < gradient_bound(dtype));
  CHECK(relative_error(values_of(d_weights), d_w) < gradient_bound(dtype));
}

TEST_CASE("swiglu stays finite where the gate is far out", "[cuda]") {
  TestDevice device;
  Tensor gate_up = device.tensor({-200, -90, 90, 200, 1, 1, 1, 1}, Shape{1, 8}, DType::kF32);
  Tensor out = device.empty(Shape{1, 4}, DType::kF32), d_out = device.tensor({1, 1, 1, 1}, Shape{1, 4}, DType::kF32);
  swiglu_forward(out, gate_up, device.stream);
  const std::vector<double> values = values_of(out);
  CHECK(std::abs(values[0]) < 1e-30);
  CHECK(std::abs(values[1]) < 1e-30);
  CHECK(values[2] == 90);
  CHECK(values[3] == 200);
  swiglu_backward(gate_up, d_out, gate_up, device.stream);
  for (const double value : values_of(gate_up)) CHECK(std::isfinite(value));
}

TEST_CASE("swiglu accepts no rows and refuses what does not fit", "[cuda]") {
  TestDevice device;
  Tensor none = device.empty(Shape{0, 8}, DType::kBF16), out = device.empty(Shape{0, 4}, DType::kBF16);
  Tensor weights = device.empty(Shape{0}, DType::kF32);
  swiglu_weighted_forward(out, none, weights, device.stream);
  swiglu_weighted_backward(none, weights, out, none, weights, device.stream);

  Tensor gate_up = device.zeros(Shape{2, 8}, DType::kF32);
  CHECK_THROWS_WITH(swiglu_forward(device.zeros(Shape{2, 3}, DType::kF32), gate_up, device.stream),
                    Contains("[2, 3] vs [2, 4]"));
  CHECK_THROWS_WITH(swiglu_forward(device.zeros(Shape{2, 4}, DType::kBF16), gate_up, device.stream),
                    Contains("found bf16, expected f32"));
  CHECK_THROWS_WITH(
      swiglu_forward(device.zeros(Shape{2, 4}, DType::kF32).columns(0, 2), gate_up.columns(0, 4), device.stream),
      Contains("expected dense rows"));
  CHECK_THROWS_WITH(swiglu_weighted_forward(device.zeros(Shape{2, 4}, DType::kF32), gate_up,
                                            device.zeros(Shape{3}, DType::kF32), device.stream),
                    Contains("[3] vs [2]"));
}

TEST_CASE("swiglu touches nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  Tensor gate_up = simulated.empty(Shape{5, 8}, DType::kBF16), out = simulated.empty(Shape{5, 4}, DType::kBF16);
  Tensor weights = simulated.empty(Shape{5}, DType::kF32);
  swiglu_forward(out, gate_up, simulated.stream);
  swiglu_backward(gate_up, out, gate_up, simulated.stream);
  swiglu_weighted_forward(out, gate_up, weights, simulated.stream);
  swiglu_weighted_backward(gate_up, weights, out, gate_up, weights, simulated.stream);
  CHECK(simulated.stream.work().size() == 4);
  CHECK(simulated.stream.work().at("swiglu.forward").bytes == 5 * 12 * 2);
}

}  // namespace
}  // namespace shoal
