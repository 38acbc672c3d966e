// tests/kernels/elementwise_test.cpp: casts, sums and fills, exactly as rounding once from double would give them.
#include "kernels/elementwise.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;
constexpr int64_t kOdd = 40003;  // several runs, and a rest

// A generator is known by its place: one in a function would give every caller of a test the same value.
#define ANY_FLOATING GENERATE(DType::kF64, DType::kF32, DType::kBF16)

TEST_CASE("cast rounds to nearest even", "[cuda]") {
  TestDevice device;
  const DType from = ANY_FLOATING, to = ANY_FLOATING;
  CAPTURE(name_of(from), name_of(to));
  Tensor x = device.tensor(normals(kOdd, "x"), Shape{kOdd}, from), out = device.empty(Shape{kOdd}, to);
  cast(out, x, device.stream);
  CHECK(same_bits(out, device.tensor(values_of(x), Shape{kOdd}, to)));

  // 1 + 2^-8 lies half-way between two bf16 numbers: the even one wins.
  Tensor half = device.tensor({1 + 0x1p-8, 1 + 0x3p-8}, Shape{2}, DType::kF32),
         rounded = device.empty(Shape{2}, DType::kBF16);
  cast(rounded, half, device.stream);
  CHECK(values_of(rounded) == std::vector<double>{1, 1 + 0x1p-6});
}

TEST_CASE("cast takes strided rows on both sides", "[cuda]") {
  TestDevice device;
  Tensor wide = device.tensor(normals(7 * 11, "x"), Shape{7, 11}, DType::kF32);
  Tensor into = device.zeros(Shape{7, 9}, DType::kBF16);
  cast(into.columns(2, 5), wide.columns(3, 5), device.stream);
  const Tensor expected = device.tensor(values_of(wide.columns(3, 5)), Shape{7, 5}, DType::kBF16);
  CHECK(values_of(into.columns(2, 5)) == values_of(expected));
  CHECK(values_of(into.columns(0, 2)) == std::vector<double>(14, 0.0));
  CHECK(values_of(into.columns(7, 2)) == std::vector<double>(14, 0.0));
}

TEST_CASE("add and accumulate are exact for numbers whose sum needs no rounding, and round once otherwise", "[cuda]") {
  TestDevice device;
  const DType a_type = ANY_FLOATING, b_type = ANY_FLOATING, out_type = ANY_FLOATING;
  CAPTURE(name_of(a_type), name_of(b_type), name_of(out_type));
  Tensor a = device.tensor(normals(kOdd, "a"), Shape{kOdd}, a_type),
         b = device.tensor(normals(kOdd, "b"), Shape{kOdd}, b_type);
  Tensor out = device.empty(Shape{kOdd}, out_type);
  add(out, a, b, device.stream);
  std::vector<double> sums = values_of(a);
  const std::vector<double> addends = values_of(b);
  const bool in_f64 = a_type == DType::kF64 || b_type == DType::kF64 || out_type == DType::kF64;
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] = in_f64 ? sums[i] + addends[i] : static_cast<double>(static_cast<float>(sums[i] + addends[i]));
  }
  CHECK(same_bits(out, device.tensor(sums, Shape{kOdd}, out_type)));

  if (out_type == a_type) {
    accumulate(a, b, device.stream);
    CHECK(same_bits(a, out));
  }
}

TEST_CASE("scale multiplies and fill_zero clears, whatever the shape", "[cuda]") {
  TestDevice device;
  const DType dtype = ANY_FLOATING;
  const Shape shape{13, 7, 51};
  Tensor x = device.tensor(normals(shape.numel(), "x"), shape, dtype);
  std::vector<double> halves = values_of(x);
  for (double& value : halves) value *= -0.5;
  scale(x, -0.5, device.stream);
  CHECK(values_of(x) == halves);
  fill_zero(x, device.stream);
  CHECK(same_bits(x, device.zeros(shape, dtype)));
  Tensor counts = device.indices({1, 2, 3}, Shape{3});
  fill_zero(counts, device.stream);
  CHECK(counts.to_vector<int32_t>() == std::vector<int32_t>{0, 0, 0});
}

TEST_CASE("elementwise ops accept nothing to do and refuse what does not fit", "[cuda]") {
  TestDevice device;
  Tensor none = device.empty(Shape{0, 3}, DType::kF32);
  cast(none, none, device.stream);
  add(none, none, none, device.stream);
  accumulate(none, none, device.stream);
  scale(none, 2, device.stream);
  fill_zero(none, device.stream);

  Tensor x = device.zeros(Shape{2, 3}, DType::kF32), y = device.zeros(Shape{3, 2}, DType::kF32);
  CHECK_THROWS_WITH(cast(x, y, device.stream), Contains("[2, 3] vs [3, 2]"));
  CHECK_THROWS_WITH(add(x, x, y, device.stream), Contains("[3, 2] vs [2, 3]"));
  CHECK_THROWS_WITH(accumulate(x.columns(0, 2), y.columns(0, 2).rows(0, 2), device.stream),
                    Contains("expected dense rows"));
  CHECK_THROWS_WITH(cast(x, device.zeros(Shape{2, 3}, DType::kI32), device.stream),
                    Contains("expected a floating tensor"));
}

TEST_CASE("elementwise ops touch nothing on a simulated device") {
  TestDevice simulated(DeviceKind::kSimulated);
  Tensor x = simulated.empty(Shape{4, 3}, DType::kF32), y = simulated.empty(Shape{4, 3}, DType::kBF16);
  cast(y, x, simulated.stream);
  add(x, x, y, simulated.stream);
  accumulate(x, y, simulated.stream);
  scale(x, 2, simulated.stream);
  fill_zero(x, simulated.stream);
  CHECK(simulated.stream.work().size() == 5);
  CHECK(simulated.stream.work().at("cast").bytes == 12 * 6);
  CHECK(simulated.stream.work().at("accumulate").bytes == 12 * 10);
  // On a CPU stream a simulated tensor is an error, not a crash.
  TestDevice cpu(DeviceKind::kCpu);
  CHECK_THROWS_WITH(fill_zero(x, cpu.stream), Contains("the tensor is on simulated, the stream on cpu"));
}

}  // namespace
}  // namespace shoal
