// tests/kernels/rope_test.cpp: rotary embedding: published YaRN figures, both layouts, and the inverse rotation.
#include "kernels/rope.h"

#include <catch2/catch.hpp>

#include <complex>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

const YarnScaling kDeepSeekV3{.factor = 40, .original_max_position = 4096, .mscale = 1, .mscale_all_dim = 1};
const YarnScaling kDeepSeekV2Lite{
    .factor = 40, .original_max_position = 4096, .mscale = 0.707, .mscale_all_dim = 0.707};

TEST_CASE("YaRN gives DeepSeek-V3's published frequencies and factors") {
  const std::vector<double> f = rope_frequencies(64, 10000, &kDeepSeekV3);
  REQUIRE(f.size() == 32);
  const std::vector<std::pair<size_t, double>> published = {{0, 1.0},        {5, 0.237137},    {10, 0.0562341},
                                                            {11, 0.0390069}, {15, 0.00833451}, {20, 7.90569e-4},
                                                            {23, 3.3338e-5}, {24, 2.5e-5},     {31, 3.3338e-6}};
  for (const auto& [i, value] : published) {
    CAPTURE(i);
    CHECK(f[i] == Approx(value).epsilon(1e-5));
  }
  CHECK(rope_amplitude(&kDeepSeekV3) == 1.0);
  CHECK(std::pow(192, -0.5) * rope_softmax_factor(&kDeepSeekV3) == Approx(0.1352338).epsilon(1e-6));
  CHECK(std::pow(192, -0.5) * rope_softmax_factor(&kDeepSeekV2Lite) == Approx(0.1147214).epsilon(1e-6));
}

TEST_CASE("without YaRN frequencies are powers of theta and factors are one") {
  const std::vector<double> f = rope_frequencies(8, 1e6, nullptr);
  REQUIRE(f.size() == 4);
  for (size_t i = 0; i < 4; ++i) CHECK(f[i] == Approx(std::pow(1e6, -0.25 * static_cast<double>(i))));
  CHECK(rope_amplitude(nullptr) == 1.0);
  CHECK(rope_softmax_factor(nullptr) == 1.0);
  // A factor alone (no mscale set) scales cos and sin, as in the paper.
  const YarnScaling plain{.factor = 40, .original_max_position = 4096, .mscale = 0, .mscale_all_dim = 0};
  CHECK(rope_amplitude(&plain) == Approx(0.1 * std::log(40.0) + 1));
  CHECK(rope_softmax_factor(&plain) == 1.0);
  CHECK_THROWS_WITH(rope_frequencies(7, 10000, nullptr), Contains("must be even"));
}

// The complex-number form: pair i of a head turns by position * frequency[i].
std::vector<double> reference(std::vector<double> x, const std::vector<int32_t>& positions,
                              const std::vector<double>& frequencies, const RopeShape& s, double sign) {
  const int64_t width = s.heads * s.head_dim, pairs = s.dim / 2;
  for (size_t row = 0; row < positions.size(); ++row) {
    for (int64_t h = 0; h < s.heads; ++h) {
      double* head = x.data() + static_cast<int64_t>(row) * width + h * s.head_dim + s.begin;
      for (int64_t i = 0; i < pairs; ++i) {
        double& a = s.layout == RopeLayout::kInterleaved ? head[2 * i] : head[i];
        double& b = s.layout == RopeLayout::kInterleaved ? head[2 * i + 1] : head[i + pairs];
        const std::complex<double> turned =
            std::complex<double>(a, b) * std::polar(1.0, sign * positions[row] * frequencies[static_cast<size_t>(i)]);
        a = turned.real();
        b = turned.imag();
      }
    }
  }
  return x;
}

TEST_CASE("rope rotates pairs as complex numbers, and backward turns them back", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const RopeLayout layout = GENERATE(RopeLayout::kInterleaved, RopeLayout::kHalfSplit);
  const RopeShape shape = GENERATE(RopeShape{.heads = 3, .head_dim = 21, .begin = 5, .dim = 14},
                                   RopeShape{.heads = 1, .head_dim = 2, .begin = 0, .dim = 2},
                                   RopeShape{.heads = 2, .head_dim = 64, .begin = 0, .dim = 64});
  RopeShape s = shape;
  s.layout = layout;
  const std::vector<int32_t> positions = {0, 1, 2, 3, 99, 0, 1, 57};
  const int64_t rows = static_cast<int64_t>(positions.size()), width = s.heads * s.head_dim;
  const std::vector<double> frequencies = rope_frequencies(s.dim, 10000, nullptr);
  Tensor table = rope_table(100, frequencies, 1.0, arithmetic_dtype(dtype), device.allocator);
  // Rows strided: a column range of a wider matrix, whose other columns must stay as they are.
  Tensor wide = device.tensor(normals(rows * (width + 9), "x"), Shape{rows, width + 9}, dtype);
  const std::vector<double> left = values_of(wide.columns(0, 4)), right = values_of(wide.columns(4 + width, 5));
  Tensor x = wide.columns(4, width);
  const std::vector<double> before = values_of(x);
  rope_forward(x, device.indices(positions, Shape{rows}), table, s, device.stream);
  CHECK(relative_error(values_of(x), reference(before, positions, frequencies, s, 1)) < forward_bound(dtype));
  const std::vector<double> rotated = values_of(x);
  rope_backward(x, device.indices(positions, Shape{rows}), table, s, device.stream);
  CHECK(relative_error(values_of(x), reference(rotated, positions, frequencies, s, -1)) < forward_bound(dtype));
  CHECK(values_of(wide.columns(0, 4)) == left);
  CHECK(values_of(wide.columns(4 + width, 5)) == right);
  // Columns of a head outside the rotated range are untouched.
  for (int64_t i = 0; i < s.begin; ++i) CHECK(rotated[static_cast<size_t>(i)] == before[static_cast<size_t>(i)]);
}

TEST_CASE("rope turns dense rows as strided ones, bit by bit", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const RopeLayout layout = GENERATE(RopeLayout::kInterleaved, RopeLayout::kHalfSplit);
  const int64_t dim = GENERATE(32, 40, 48);  // of pairs that end within a run of eight, and that fill it
  const RopeShape s{.heads = 5, .head_dim = 80, .begin = 16, .dim = dim, .layout = layout};
  CAPTURE(name_of(dtype), dim);
  const std::vector<int32_t> positions = {3, 0, 99};
  Tensor table = rope_table(100, rope_frequencies(dim, 10000, nullptr), 1, arithmetic_dtype(dtype), device.allocator);
  Tensor dense = device.tensor(normals(3 * 400, "x"), Shape{3, 400}, dtype);
  std::vector<double> wide_values = normals(3 * 401, "wide");
  const std::vector<double> values = values_of(dense);
  for (size_t i = 0; i < values.size(); ++i) wide_values[i / 400 * 401 + i % 400 + 1] = values[i];
  const Tensor strided = device.tensor(wide_values, Shape{3, 401}, dtype).columns(1, 400);
  for (const Tensor& x : {dense, strided}) {
    rope_forward(x, device.indices(positions, Shape{3}), table, s, device.stream);
  }
  CHECK(values_of(dense) != values);
  CHECK(same_bits(dense, strided));
}

TEST_CASE("rope's gradient agrees with central differences", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const RopeLayout layout = GENERATE(RopeLayout::kInterleaved, RopeLayout::kHalfSplit);
  const RopeShape s{.heads = 2, .head_dim = 10, .begin = 2, .dim = 6, .layout = layout};
  const Shape shape{3, 20};
  Tensor positions = device.indices({4, 0, 17}, Shape{3});
  // An amplitude other than one scales the gradient as well.
  Tensor table = rope_table(20, rope_frequencies(6, 100, nullptr), 1.25, dtype, device.allocator);
  Tensor d_out = device.tensor(normals(60, "d_out"), shape, dtype);
  const auto loss = [&](const std::vector<double>& values) {
    Tensor x = device.tensor(values, shape, dtype);
    rope_forward(x, positions, table, s, device.stream);
    return dot(values_of(x), values_of(d_out));
  };
  const auto d_x = numerical_gradient(loss, normals(60, "x"), gradient_step(dtype));
  Tensor gradient = device.tensor(values_of(d_out), shape, dtype);
  rope_backward(gradient, positions, table, s, device.stream);
  CHECK(relative_error(values_of(gradient), d_x) < gradient_bound(dtype));
}

TEST_CASE("rope accepts no rows and refuses columns outside of a head", "[cuda]") {
  TestDevice device;
  const RopeShape s{.heads = 1, .head_dim = 4, .begin = 0, .dim = 4};
  Tensor table = rope_table(8, rope_frequencies(4, 10000, nullptr), 1, DType::kF32, device.allocator);
  rope_forward(device.empty(Shape{0, 4}, DType::kF32), device.indices({}, Shape{0}), table, s, device.stream);
  Tensor x = device.zeros(Shape{3, 4}, DType::kF32);
  CHECK_THROWS_WITH(rope_forward(x, device.indices({0, 0, 0}, Shape{3}), table,
                                 RopeShape{.head_dim = 4, .begin = 2, .dim = 4}, device.stream),
                    Contains("columns [2, 6) of a head of 4"));
}

TEST_CASE("a CPU names the row whose position is outside the rotary table") {
  TestDevice cpu(DeviceKind::kCpu);
  const RopeShape s{.heads = 1, .head_dim = 4, .begin = 0, .dim = 4};
  Tensor table = rope_table(8, rope_frequencies(4, 10000, nullptr), 1, DType::kF32, cpu.allocator);
  Tensor x = cpu.zeros(Shape{3, 4}, DType::kF32);
  CHECK_THROWS_WITH(rope_forward(x, cpu.indices({0, 7, 8}, Shape{3}), table, s, cpu.stream),
                    Contains("row 2 is at position 8, but the rotary table covers positions 0 to 7"));
  CHECK_THROWS_WITH(rope_forward(x, cpu.indices({-1, 0, 0}, Shape{3}), table, s, cpu.stream),
                    Contains("row 0 is at position -1"));
}

TEST_CASE("rope touches nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  const RopeShape s{.heads = 2, .head_dim = 4, .begin = 0, .dim = 4};
  Tensor table = rope_table(8, rope_frequencies(4, 10000, nullptr), 1, DType::kF32, simulated.allocator);
  Tensor x = simulated.empty(Shape{3, 8}, DType::kBF16), positions = simulated.empty(Shape{3}, DType::kI32);
  rope_forward(x, positions, table, s, simulated.stream);
  rope_backward(x, positions, table, s, simulated.stream);
  CHECK(simulated.stream.work().at("rope.forward").executed_flops == 3 * 3 * 8);
  CHECK(simulated.stream.work().at("rope.backward").calls == 1);
}

}  // namespace
}  // namespace shoal
