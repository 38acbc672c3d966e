// tests/kernels/quantize_fused_test.cpp: re-tiling, quantisation behind SwiGLU, threads, and what the doors refuse.
#include <catch2/catch.hpp>

#include "kernels/swiglu.h"
#include "tests/kernels/quantize_model.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Rows with scales of their own, over many powers of two.
std::vector<double> uneven_rows(int64_t rows, int64_t width, double spread) {
  std::vector<double> values = normals(rows * width, "x");
  const std::vector<double> exponents = normals(rows, "rows", spread);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= std::exp2(exponents[i / static_cast<size_t>(width)]);
  return values;
}

TEST_CASE("quantize: re-tiled rows are exact while normal at the new scale; below, 2^-10 of it at most") {
  TestDevice cpu;
  const int64_t rows = GENERATE(1, 129, 300), width = GENERATE(7, 128, 300);
  const double spread = GENERATE(0.5, 8.0);
  CAPTURE(rows, width, spread);
  const std::vector<int64_t> offsets{0, rows / 3, rows / 3, rows};
  const Tensor x = cpu.tensor(uneven_rows(rows, width, spread), Shape{rows, width}, DType::kF32);
  QuantizeOptions options{.scale = TileScale::kPowerOfTwo};
  const QuantizedRows q = empty_quantized_rows(rows, width, cpu.stream);
  quantize_rows(q, x, options, cpu.stream);
  const Tensor read = cpu.empty(x.shape(), DType::kF32);
  dequantize_rows(read, q, cpu.stream);

  const QuantizedColumns columns = empty_quantized_columns(offsets, width, cpu.stream);
  options.counts = empty_quantize_counts(cpu.stream);
  requantize_columns(columns, q, options, cpu.stream);
  const std::vector<double> values = values_of(read);
  const QuantizedModel model = quantize_model(values, width, column_tiles(offsets), options);
  CHECK(agrees(columns, model));
  CHECK(values_of(options.counts) == model.counts);

  const std::vector<float> scales = columns.scales.to_vector<float>();
  const std::vector<uint8_t> codes = bytes_of(columns.codes);
  int64_t num_below = 0, num_inexact = 0, num_wrong = 0;
  for (size_t segment = 0; segment + 1 < offsets.size(); ++segment) {
    for (int64_t row = offsets[segment]; row < offsets[segment + 1]; ++row) {
      const int64_t tile = columns.first_tile[segment] + (row - offsets[segment]) / kTile;
      for (int64_t c = 0; c < width; ++c) {
        const size_t i = static_cast<size_t>(row * width + c);
        const double scale = scales[static_cast<size_t>(tile * width + c)];
        const double error = std::abs(e4m3_value(codes[i]) * scale - values[i]);
        const bool is_normal = std::abs(values[i]) >= std::ldexp(scale, -6) || values[i] == 0;
        num_below += !is_normal;
        num_inexact += error > 0;
        num_wrong += error > (is_normal ? 0 : std::ldexp(scale, -10));
      }
    }
  }
  CHECK(num_wrong == 0);
  // The test would say nothing if all were normal.
  if (rows == 300 && width == 300 && spread == 8) {
    CHECK(num_below > 10000);
    CHECK(num_inexact > 1000);
  }
}

TEST_CASE("quantize: a re-tiled NaN spreads to the columns it stood for, and no further") {
  TestDevice cpu;
  constexpr int64_t kRows = 130, kWidth = 140;
  std::vector<double> values = uneven_rows(kRows, kWidth, 1);
  values[3] = kNaN;
  const Tensor x = cpu.tensor(values, Shape{kRows, kWidth}, DType::kBF16);
  const QuantizedRows q = empty_quantized_rows(kRows, kWidth, cpu.stream);
  quantize_rows(q, x, {}, cpu.stream);
  const QuantizedColumns columns = empty_quantized_columns({0, kRows}, kWidth, cpu.stream);
  requantize_columns(columns, q, {}, cpu.stream);
  const std::vector<float> scales = columns.scales.to_vector<float>();
  for (size_t i = 0; i < scales.size(); ++i) {
    CAPTURE(i);
    CHECK(std::isnan(scales[i]) == (i < kTile));
  }
}

TEST_CASE("quantize: behind swiglu, bit by bit what swiglu stored and then quantised would be") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const TileScale scale = GENERATE(TileScale::kExact, TileScale::kPowerOfTwo);
  const bool weighted = GENERATE(false, true);
  const int64_t rows = GENERATE(1, 37, 300), ffn = GENERATE(1, 9, 131, 300);
  CAPTURE(name_of(dtype), scale == TileScale::kExact, weighted, rows, ffn);
  const Tensor gate_up = cpu.tensor(normals(rows * 2 * ffn, "gate_up", 4), Shape{rows, 2 * ffn}, dtype);
  const Tensor weights = weighted ? cpu.tensor(normals(rows, "weights"), Shape{rows}, DType::kF32) : Tensor();
  const Tensor stored = cpu.empty(Shape{rows, ffn}, dtype);
  if (weighted) {
    swiglu_weighted_forward(stored, gate_up, weights, cpu.stream);
  } else {
    swiglu_forward(stored, gate_up, cpu.stream);
  }
  const QuantizeOptions expected_options{.scale = scale, .counts = empty_quantize_counts(cpu.stream)};
  const QuantizeOptions options{.scale = scale, .counts = empty_quantize_counts(cpu.stream)};

  const QuantizedRows expected_rows = empty_quantized_rows(rows, ffn, cpu.stream);
  const QuantizedRows by_rows = empty_quantized_rows(rows, ffn, cpu.stream);
  quantize_rows(expected_rows, stored, expected_options, cpu.stream);
  swiglu_quantize_rows(by_rows, gate_up, weights, options, cpu.stream);
  CHECK(same(by_rows, expected_rows));

  const std::vector<int64_t> offsets{0, rows / 2, rows / 2, rows};
  const QuantizedColumns expected_columns = empty_quantized_columns(offsets, ffn, cpu.stream);
  const QuantizedColumns by_columns = empty_quantized_columns(offsets, ffn, cpu.stream);
  quantize_columns(expected_columns, stored, expected_options, cpu.stream);
  swiglu_quantize_columns(by_columns, gate_up, weights, options, cpu.stream);
  CHECK(same(by_columns, expected_columns));
  CHECK(same_bits(options.counts, expected_options.counts));
}

// Everything there is, once; all results as bytes.
std::vector<std::vector<uint8_t>> all_results(TestDevice& cpu, const Tensor& x, const Tensor& gate_up,
                                              const Tensor& index) {
  const int64_t rows = x.size(0), width = x.size(1);
  const std::vector<int64_t> offsets{0, 150, rows};
  std::vector<std::vector<uint8_t>> results;
  const auto keep = [&](const auto& q) {
    results.push_back(bytes_of(q.codes));
    results.push_back(bytes_of(q.scales));
  };
  const QuantizeOptions options{.counts = empty_quantize_counts(cpu.stream)};
  const QuantizedRows q = empty_quantized_rows(rows, width, cpu.stream);
  const QuantizedColumns columns = empty_quantized_columns(offsets, width, cpu.stream);
  const QuantizedBlocks blocks = empty_quantized_blocks(rows, width, cpu.stream);
  quantize_rows(q, x, options, cpu.stream);
  keep(q);
  quantize_columns(columns, x, options, cpu.stream);
  keep(columns);
  quantize_rows_and_columns(q, columns, x, options, cpu.stream);
  keep(q);
  keep(columns);
  requantize_columns(columns, q, options, cpu.stream);
  keep(columns);
  quantize_gathered_rows(q, x, index, options, cpu.stream);
  keep(q);
  quantize_blocks(blocks, x, cpu.stream);
  keep(blocks);
  swiglu_quantize_rows(q, gate_up, {}, options, cpu.stream);
  keep(q);
  swiglu_quantize_columns(columns, gate_up, {}, options, cpu.stream);
  keep(columns);
  const QuantizedRows moved = empty_quantized_rows(rows, width, cpu.stream);
  gather_quantized_rows(moved, q, index, cpu.stream);
  keep(moved);
  const Tensor back = cpu.empty(x.shape(), x.dtype());
  dequantize_rows(back, q, cpu.stream);
  results.push_back(bytes_of(back));
  results.push_back(bytes_of(options.counts));
  return results;
}

TEST_CASE("quantize: one thread and several, the same bits") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  constexpr int64_t kRows = 300, kWidth = 280;
  const Tensor x = cpu.tensor(uneven_rows(kRows, kWidth, 3), Shape{kRows, kWidth}, dtype);
  const Tensor gate_up = cpu.tensor(normals(kRows * 2 * kWidth, "gate_up", 4), Shape{kRows, 2 * kWidth}, dtype);
  std::vector<int32_t> index;
  for (int32_t i = 0; i < kRows; ++i) index.push_back(i * 7 % kRows);
  const Tensor rows = cpu.indices(index, Shape{kRows});
  std::vector<std::vector<std::vector<uint8_t>>> results;
  for (const int threads : {1, 2, 3}) {
    const ThreadCount now(threads);
    results.push_back(all_results(cpu, x, gate_up, rows));
  }
  CHECK(results[1] == results[0]);
  CHECK(results[2] == results[0]);
}

TEST_CASE("quantize: no rows, no columns, no segments") {
  TestDevice cpu;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const Shape shape = GENERATE(Shape{0, 5}, Shape{0, 0}, Shape{4, 0});
  const int64_t rows = shape[0], width = shape[1];
  const Tensor x = cpu.empty(shape, dtype), gate_up = cpu.empty(Shape{rows, 2 * width}, dtype);
  const Tensor none = cpu.empty(Shape{0}, DType::kI32);
  const QuantizeOptions options{.counts = empty_quantize_counts(cpu.stream)};
  const QuantizedRows q = empty_quantized_rows(rows, width, cpu.stream);
  const QuantizedRows q0 = empty_quantized_rows(0, width, cpu.stream);
  const QuantizedColumns columns = empty_quantized_columns({0, 0, rows}, width, cpu.stream);
  quantize_rows(q, x, options, cpu.stream);
  quantize_columns(columns, x, options, cpu.stream);
  quantize_rows_and_columns(q, columns, x, options, cpu.stream);
  quantize_gathered_rows(q0, x, none, options, cpu.stream);
  quantize_blocks(empty_quantized_blocks(rows, width, cpu.stream), x, cpu.stream);
  requantize_columns(columns, q, options, cpu.stream);
  dequantize_rows(x, q, cpu.stream);
  gather_quantized_rows(q0, q, none, cpu.stream);
  swiglu_quantize_rows(q, gate_up, cpu.empty(Shape{rows}, DType::kF32), options, cpu.stream);
  swiglu_quantize_columns(columns, gate_up, {}, options, cpu.stream);
  if (rows == 0) quantize_columns(empty_quantized_columns({0}, width, cpu.stream), x, options, cpu.stream);
  CHECK(same_bits(options.counts, empty_quantize_counts(cpu.stream)));
}

TEST_CASE("quantize: a simulated device only keeps the accounts") {
  TestDevice simulated(DeviceKind::kSimulated);
  Stream& stream = simulated.stream;
  const Tensor x = simulated.empty(Shape{300, 200}, DType::kBF16);
  const Tensor gate_up = simulated.empty(Shape{300, 400}, DType::kBF16);
  const Tensor index = simulated.empty(Shape{300}, DType::kI32), weights = simulated.empty(Shape{300}, DType::kF32);
  const QuantizeOptions options{.counts = empty_quantize_counts(stream)};
  const QuantizedRows q = empty_quantized_rows(300, 200, stream), moved = empty_quantized_rows(300, 200, stream);
  const QuantizedColumns columns = empty_quantized_columns({0, 130, 300}, 200, stream);
  const QuantizedBlocks blocks = empty_quantized_blocks(300, 200, stream);
  const MemoryUse use = simulated.allocator.use();
  CHECK(use.now_bytes[static_cast<size_t>(MemoryKind::kWeights)] >= 300 * 200 + 3 * 2 * 4);
  quantize_rows(q, x, options, stream);
  quantize_columns(columns, x, options, stream);
  quantize_rows_and_columns(q, columns, x, options, stream);
  quantize_gathered_rows(q, x, index, options, stream);
  quantize_blocks(blocks, x, stream);
  requantize_columns(columns, q, options, stream);
  dequantize_rows(x, q, stream);
  gather_quantized_rows(moved, q, index, stream);
  swiglu_quantize_rows(q, gate_up, weights, options, stream);
  swiglu_quantize_columns(columns, gate_up, {}, options, stream);
  CHECK(simulated.allocator.use().total_peak_bytes == use.total_now_bytes);
  CHECK(stream.work().size() == 10);
  const double values = 300 * 200;
  CHECK(stream.work().at("quantize.rows").bytes == 3 * values + 300 * 2 * 4);
  CHECK(stream.work().at("quantize.columns").bytes == 3 * values + 4 * 200 * 4);
  CHECK(stream.work().at("quantize.rows_and_columns").bytes == 4 * values + 300 * 2 * 4 + 4 * 200 * 4);
  CHECK(stream.work().at("quantize.blocks").bytes == 3 * values + 3 * 2 * 4);
  CHECK(stream.work().at("quantize.swiglu_rows").bytes == 5 * values + 300 * 2 * 4 + 300 * 4);
}

TEST_CASE("quantize: refuses what does not fit") {
  TestDevice cpu;
  Stream& stream = cpu.stream;
  const Tensor x = cpu.zeros(Shape{5, 200}, DType::kF32);
  const QuantizedRows q = empty_quantized_rows(5, 200, stream);
  const QuantizedColumns columns = empty_quantized_columns({0, 2, 5}, 200, stream);
  CHECK_THROWS_WITH(quantize_rows(empty_quantized_rows(4, 200, stream), x, {}, stream),
                    Contains("[4, 200] vs [5, 200]"));
  CHECK_THROWS_WITH(quantize_rows({q.codes, cpu.zeros(Shape{5, 1}, DType::kF32)}, x, {}, stream),
                    Contains("[5, 1] vs [5, 2]"));
  CHECK_THROWS_WITH(quantize_rows({q.codes, cpu.zeros(Shape{5, 2}, DType::kBF16)}, x, {}, stream),
                    Contains("found bf16, expected f32"));
  CHECK_THROWS_WITH(quantize_rows({cpu.zeros(Shape{5, 200}, DType::kU8), q.scales}, x, {}, stream),
                    Contains("found u8, expected e4m3"));
  CHECK_THROWS_WITH(quantize_rows({}, x, {}, stream), Contains("codes and scales are needed"));
  CHECK_THROWS_WITH(quantize_rows(q, cpu.zeros(Shape{5, 200}, DType::kF64), {}, stream),
                    Contains("found f64, expected f32 or bf16"));
  CHECK_THROWS_WITH(quantize_rows(q, cpu.zeros(Shape{1000}, DType::kF32), {}, stream),
                    Contains("x is [1000], expected [rows, width]"));
  CHECK_THROWS_WITH(quantize_rows(q, x, {.min_amax = 0}, stream), Contains("min_amax is 0, expected a number from"));
  CHECK_THROWS_WITH(quantize_rows(q, x, {.counts = cpu.zeros(Shape{5}, DType::kF64)}, stream), Contains("[5] vs [6]"));
  CHECK_THROWS_WITH(quantize_rows(q, x, {.counts = cpu.zeros(Shape{6}, DType::kF32)}, stream),
                    Contains("found f32, expected f64"));
  TestDevice simulated(DeviceKind::kSimulated);
  CHECK_THROWS_WITH(quantize_rows(q, simulated.empty(Shape{5, 200}, DType::kF32), {}, stream),
                    Contains("the tensor is on simulated"));

  CHECK_THROWS_WITH(empty_quantized_columns({1, 5}, 8, stream), Contains("the first segment must begin at row 0"));
  CHECK_THROWS_WITH(empty_quantized_columns({}, 8, stream), Contains("the first segment must begin at row 0"));
  CHECK_THROWS_WITH(empty_quantized_columns({0, 5, 3}, 8, stream), Contains("offsets[2] is 3 after 5"));
  CHECK_THROWS_WITH(quantize_columns(empty_quantized_columns({0, 2, 4}, 200, stream), x, {}, stream),
                    Contains("the segments end at row 4 of 5"));
  QuantizedColumns wrong = columns;
  wrong.first_tile = {0, 1, 1};
  CHECK_THROWS_WITH(quantize_columns(wrong, x, {}, stream), Contains("first_tile does not follow from the offsets"));
  wrong = columns;
  wrong.scales = cpu.zeros(Shape{1, 200}, DType::kF32);
  CHECK_THROWS_WITH(quantize_columns(wrong, x, {}, stream), Contains("[1, 200] vs [2, 200]"));
  CHECK_THROWS_WITH(quantize_rows_and_columns({}, columns, x, {}, stream), Contains("codes and scales are needed"));
  CHECK_THROWS_WITH(quantize_rows_and_columns(q, wrong, x, {}, stream), Contains("[1, 200] vs [2, 200]"));
  CHECK_THROWS_WITH(quantize_blocks(empty_quantized_blocks(200, 5, stream), x, stream),
                    Contains("[200, 5] vs [5, 200]"));

  CHECK_THROWS_WITH(quantize_gathered_rows(q, x, cpu.indices({0, 1, 2, 3, 5}, Shape{5}), {}, stream),
                    Contains("index[4] is 5, x has 5 rows"));
  CHECK_THROWS_WITH(gather_quantized_rows(q, q, cpu.indices({0, -1, 2, 3, 4}, Shape{5}), stream),
                    Contains("index[1] is -1, x has 5 rows"));
  CHECK_THROWS_WITH(gather_quantized_rows(q, q, cpu.indices({0, 1}, Shape{2}), stream),
                    Contains("[5, 200] vs [2, 200]"));
  CHECK_THROWS_WITH(requantize_columns(columns, {}, {}, stream), Contains("x is not quantised rows"));
  CHECK_THROWS_WITH(dequantize_rows(cpu.zeros(Shape{5, 100}, DType::kF32), q, stream),
                    Contains("[5, 200] vs [5, 100]"));
  CHECK_THROWS_WITH(swiglu_quantize_rows(q, cpu.zeros(Shape{5, 399}, DType::kF32), {}, {}, stream),
                    Contains("gate_up is [5, 399], expected [rows, 2 * ffn]"));
  CHECK_THROWS_WITH(
      swiglu_quantize_rows(q, cpu.zeros(Shape{5, 400}, DType::kF32), cpu.zeros(Shape{4}, DType::kF32), {}, stream),
      Contains("[4] vs [5]"));
  CHECK_THROWS_WITH(swiglu_quantize_columns(columns, cpu.zeros(Shape{4, 400}, DType::kF32), {}, {}, stream),
                    Contains("the segments end at row 5 of 4"));
}

}  // namespace
}  // namespace shoal
