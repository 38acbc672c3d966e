// tests/kernels/narrow_accumulator_test.cpp: what 14 bits lose in a long sum, and what promotion gives back.
#include "kernels/narrow_accumulator.h"

#include <catch2/catch.hpp>

#include "kernels/gemm_fp8.h"
#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

Tensor codes_of(TestDevice& cpu, const std::vector<double>& values, Shape shape) {
  const Tensor codes = cpu.empty(shape, DType::kE4M3);
  for (size_t i = 0; i < values.size(); ++i) codes.data<float8_e4m3>()[i] = float8_e4m3(static_cast<float>(values[i]));
  return codes;
}

std::vector<double> exact(const Tensor& a, const Tensor& b) {
  std::vector<double> c;
  for (int64_t i = 0; i < a.size(0); ++i) {
    for (int64_t j = 0; j < b.size(0); ++j) {
      double sum = 0;
      for (int64_t k = 0; k < a.size(1); ++k) {
        sum += static_cast<double>(load(a[i].data<float8_e4m3>()[k])) *
               static_cast<double>(load(b[j].data<float8_e4m3>()[k]));
      }
      c.push_back(sum);
    }
  }
  return c;
}

// The worst error of any sum, relative to a typical one.
double worst_error(TestDevice& cpu, const Tensor& a, const Tensor& b, Accumulator accumulator) {
  const Tensor c = cpu.empty(Shape{a.size(0), b.size(0)}, DType::kF32);
  multiply_codes(c, a, b, accumulator, cpu.stream);
  const std::vector<double> found = values_of(c), expected = exact(a, b);
  double worst = 0, squares = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::abs(found[i] - expected[i]));
    squares += expected[i] * expected[i];
  }
  return worst / std::sqrt(squares / static_cast<double>(found.size()));
}

TEST_CASE("14 bits lose about 1 % of random sums of 4096, promotion all but a thousandth") {
  TestDevice cpu;
  constexpr int64_t kRows = 48;
  double before = 0;
  for (const int64_t k : {128, 1024, 4096}) {
    CAPTURE(k);
    const Tensor a = codes_of(cpu, normals(kRows * k, "a", 100), Shape{kRows, k});
    const Tensor b = codes_of(cpu, normals(kRows * k, "b", 100), Shape{kRows, k});
    const double narrow = worst_error(cpu, a, b, Accumulator::kNarrow);
    const double promoted = worst_error(cpu, a, b, Accumulator::kNarrowPromoted);
    CHECK(worst_error(cpu, a, b, Accumulator::kF32) < 1e-5);
    CHECK(promoted < 3e-3);
    if (k == 128) CHECK(narrow == promoted);
    CHECK(narrow > 1.5 * before);
    before = narrow;
  }
  CHECK(before > 5e-3);
  CHECK(before < 3e-2);
}

TEST_CASE("the narrow sum is the exact one where 14 bits hold it, and cuts toward zero where they do not") {
  TestDevice cpu;
  const auto sum = [&](const std::vector<double>& values, Accumulator accumulator) {
    const int64_t k = static_cast<int64_t>(values.size());
    const Tensor a = codes_of(cpu, values, Shape{1, k});
    const Tensor b = codes_of(cpu, std::vector<double>(values.size(), 1.0), Shape{1, k});
    const Tensor c = cpu.empty(Shape{1, 1}, DType::kF32);
    multiply_codes(c, a, b, accumulator, cpu.stream);
    return c.data<float>()[0];
  };
  CHECK(sum({1, 2, -3, 0.5}, Accumulator::kNarrow) == 0.5f);
  CHECK(sum({}, Accumulator::kNarrow) == 0.0f);
  // Beside 256 = 2^8 the last of 14 bits is 2^-5: 2^-6 is cut off, whatever its sign.
  CHECK(sum({256, 0.015625}, Accumulator::kNarrow) == 256.0f);
  CHECK(sum({256, -0.015625}, Accumulator::kNarrow) == 256.0f);
  CHECK(sum({256, 0.03125}, Accumulator::kNarrow) == 256.03125f);
  CHECK(sum({256, 0.015625}, Accumulator::kF32) == 256.015625f);
  // The running sum takes part: the same small number comes too late in the second group, and survives in a new block.
  std::vector<double> late(256, 0.0);
  late[0] = 256;
  late[40] = 0.015625;
  CHECK(sum(late, Accumulator::kNarrowPromoted) == 256.0f);
  // So does the running sum itself, beside large products that cancel.
  std::vector<double> cancels(64, 0.0);
  cancels[0] = 1;
  cancels[1] = 0.015625;
  cancels[32] = 256;
  cancels[33] = -256;
  CHECK(sum(cancels, Accumulator::kNarrow) == 1.0f);
  CHECK(sum(cancels, Accumulator::kF32) == 1.015625f);
  std::swap(late[40], late[140]);
  CHECK(sum(late, Accumulator::kNarrowPromoted) == 256.015625f);
  CHECK(sum(late, Accumulator::kNarrow) == 256.0f);
}

TEST_CASE("the f32 accumulator is the definition of FP8 products with scales of one") {
  TestDevice cpu;
  constexpr int64_t kRows = 20, kOut = 9, kIn = 300;
  const Tensor x = codes_of(cpu, normals(kRows * kIn, "x", 50), Shape{kRows, kIn});
  // Blocks whose largest is 448 have scale 1.
  std::vector<double> weights = normals(kOut * kIn, "w", 50);
  for (int64_t block = 0; block < 3; ++block) weights[static_cast<size_t>(block * kTile)] = 448;
  const Tensor w = codes_of(cpu, weights, Shape{kOut, kIn});
  std::vector<double> rounded;
  for (int64_t i = 0; i < w.numel(); ++i) rounded.push_back(static_cast<double>(load(w.data<float8_e4m3>()[i])));
  PackedMatrix packed;
  pack_matrix_fp8(packed, cpu.tensor(rounded, w.shape(), DType::kF32), PackFor::kForward, cpu.stream);
  const Tensor ones = cpu.tensor(std::vector<double>(kRows * 3, 1.0), Shape{kRows, 3}, DType::kF32);
  const Tensor y = cpu.empty(Shape{kRows, kOut}, DType::kF32), c = cpu.empty(Shape{kRows, kOut}, DType::kF32);
  linear_forward_fp8(y, {x, ones}, packed, cpu.stream);
  multiply_codes(c, x, w, Accumulator::kF32, cpu.stream);
  CHECK(same_bits(y, c));
}

TEST_CASE("the emulation refuses what is not a number, and shapes that do not meet") {
  TestDevice cpu;
  const Tensor a = codes_of(cpu, {1, 2, std::numeric_limits<double>::quiet_NaN()}, Shape{1, 3});
  const Tensor b = codes_of(cpu, {1, 2, 3}, Shape{1, 3});
  const Tensor c = cpu.empty(Shape{1, 1}, DType::kF32);
  CHECK_THROWS_WITH(multiply_codes(c, a, b, Accumulator::kNarrow, cpu.stream), Contains("row 0 has a NaN code at 2"));
  CHECK_THROWS_WITH(multiply_codes(c, b, codes_of(cpu, {1, 2}, Shape{1, 2}), Accumulator::kNarrow, cpu.stream),
                    Contains("a is [1, 3], b is [1, 2]"));
}

}  // namespace
}  // namespace shoal
