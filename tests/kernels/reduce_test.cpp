// tests/kernels/reduce_test.cpp: ordered sums: right, and the same bits whatever the threads or the split.
#include "kernels/reduce.h"

#include <catch2/catch.hpp>

#include "tests/kernels/op_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

int64_t chunks(int64_t numel) { return (numel + kSumChunk - 1) / kSumChunk; }

TEST_CASE("sums agree with plain loops in double", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const int64_t numel = GENERATE(0, 1, 4096, 50001);
  CAPTURE(name_of(dtype), numel);
  Tensor x = device.tensor(normals(numel, "x"), Shape{numel}, dtype);
  const std::vector<double> values = values_of(x);
  double sum_expected = 0, squares_expected = 0;
  for (const double value : values) sum_expected += value;
  for (const double value : values) squares_expected += value * value;

  Tensor total = device.empty(Shape{1}, DType::kF64), partial = device.empty(Shape{chunks(numel)}, DType::kF64);
  sum(total, x, device.stream);
  CHECK(values_of(total)[0] == Approx(sum_expected).epsilon(1e-11).margin(1e-11));
  sum_of_squares(partial, x, device.stream);
  double squares = 0;
  for (const double part : values_of(partial)) squares += part;
  CHECK(squares == Approx(squares_expected).epsilon(1e-12));

  const ThreadCount one(1);
  Tensor total_1 = device.empty(Shape{1}, DType::kF64), partial_1 = device.empty(partial.shape(), DType::kF64);
  sum(total_1, x, device.stream);
  sum_of_squares(partial_1, x, device.stream);
  CHECK(same_bits(total_1, total));
  CHECK(same_bits(partial_1, partial));
}

TEST_CASE("a shard that begins at a chunk gives its chunks' partial sums, bit by bit", "[cuda]") {
  TestDevice device;
  constexpr int64_t kNumel = 5 * kSumChunk + 100;
  Tensor x = device.tensor(normals(kNumel, "x"), Shape{kNumel}, DType::kF32);
  Tensor whole = device.empty(Shape{6}, DType::kF64), shard = device.empty(Shape{4}, DType::kF64);
  sum_of_squares(whole, x, device.stream);
  sum_of_squares(shard, x.rows(2 * kSumChunk, kNumel - 2 * kSumChunk), device.stream);
  CHECK(same_bits(shard, whole.rows(2, 4)));
}

TEST_CASE("sums do not depend on where in memory the numbers begin", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  constexpr int64_t kNumel = 2 * kSumChunk + 13;
  std::vector<double> values = normals(kNumel + 1, "x");
  const Tensor shifted = device.tensor(values, Shape{kNumel + 1}, dtype).rows(1, kNumel);
  values.erase(values.begin());
  const Tensor aligned = device.tensor(values, Shape{kNumel}, dtype);
  std::vector<Tensor> results;
  for (const Tensor& x : {shifted, aligned}) {
    Tensor total = device.empty(Shape{1}, DType::kF64), partial = device.empty(Shape{3}, DType::kF64);
    sum(total, x, device.stream);
    sum_of_squares(partial, x, device.stream);
    results.insert(results.end(), {total, partial});
  }
  CHECK(same_bits(results[0], results[2]));
  CHECK(same_bits(results[1], results[3]));
}

TEST_CASE("sums refuse what does not fit and touch nothing on a simulated device") {
  TestDevice cpu(DeviceKind::kCpu), simulated(DeviceKind::kSimulated);
  Tensor x = cpu.zeros(Shape{4097}, DType::kF32);
  CHECK_THROWS_WITH(sum_of_squares(cpu.zeros(Shape{1}, DType::kF64), x, cpu.stream), Contains("[1] vs [2]"));
  CHECK_THROWS_WITH(sum(cpu.zeros(Shape{1}, DType::kF32), x, cpu.stream), Contains("found f32, expected f64"));
  CHECK_THROWS_WITH(sum(cpu.zeros(Shape{1}, DType::kF64), cpu.zeros(Shape{4}, DType::kBF16), cpu.stream),
                    Contains("x is bf16, expected f32 or f64"));
  Tensor y = simulated.empty(Shape{4097}, DType::kF32);
  sum(simulated.empty(Shape{1}, DType::kF64), y, simulated.stream);
  sum_of_squares(simulated.empty(Shape{2}, DType::kF64), y, simulated.stream);
  CHECK(simulated.stream.work().at("reduce.sum").executed_flops == 4097);
  CHECK(simulated.stream.work().at("reduce.sum_of_squares").bytes == 4097 * 4 + 16);
}

}  // namespace
}  // namespace shoal
