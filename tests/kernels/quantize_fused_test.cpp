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

TEST_CASE("quantize: re-tiled rows are exact while normal at the new scale; below, 2^-10 of it at most", "[cuda]") {
  TestDevice device;
  const int64_t rows = GENERATE(1, 129, 300), width = GENERATE(7, 128, 300);
  const double spread = GENERATE(0.5, 8.0);
  CAPTURE(rows, width, spread);
  const std::vector<int64_t> offsets{0, rows / 3, rows / 3, rows};
  const Tensor x = device.tensor(uneven_rows(rows, width, spread), Shape{rows, width}, DType::kF32);
  QuantizeOptions options{.scale = TileScale::kPowerOfTwo};
  const QuantizedRows q = empty_quantized_rows(rows, width, device.stream);
  quantize_rows(q, x, options, device.stream);
  const Tensor read = device.empty(x.shape(), DType::kF32);
  dequantize_rows(read, q, device.stream);

  const QuantizedColumns columns = empty_quantized_columns(offsets, width, device.stream);
  options.counts = empty_quantize_counts(device.stream);
  requantize_columns(columns, q, options, device.stream);
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

TEST_CASE("quantize: a re-tiled NaN spreads to the columns it stood for, and no further", "[cuda]") {
  TestDevice device;
  constexpr int64_t kRows = 130, kWidth = 140;
  std::vector<double> values = uneven_rows(kRows, kWidth, 1);
  values[3] = kNaN;
  const Tensor x = device.tensor(values, Shape{kRows, kWidth}, DType::kBF16);
  const QuantizedRows q = empty_quantized_rows(kRows, kWidth, device.stream);
  quantize_rows(q, x, {}, device.stream);
  const QuantizedColumns columns = empty_quantized_columns({0, kRows}, kWidth, device.stream);
  requantize_columns(columns, q, {}, device.stream);
  const std::vector<float> scales = columns.scales.to_vector<float>();
  for (size_t i = 0; i < scales.size(); ++i) {
    CAPTURE(i);
    CHECK(std::isnan(scales[i]) == (i < kTile));
  }
}

TEST_CASE("quantize: behind swiglu, bit by bit what swiglu stored and then quantised would be", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const TileScale scale = GENERATE(TileScale::kExact, TileScale::kPowerOfTwo);
  const bool weighted = GENERATE(false, true);
  const int64_t rows = GENERATE(1, 37, 300), ffn = GENERATE(1, 9, 131, 300);
  CAPTURE(name_of(dtype), scale == TileScale::kExact, weighted, rows, ffn);
  const Tensor gate_up = device.tensor(normals(rows * 2 * ffn, "gate_up", 4), Shape{rows, 2 * ffn}, dtype);
  const Tensor weights = weighted ? device.tensor(normals(rows, "weights"), Shape{rows}, DType::kF32) : Tensor();
  const Tensor stored = device.empty(Shape{rows, ffn}, dtype);
  if (weighted) {
    swiglu_weighted_forward(stored, gate_up, weights, device.stream);
  } else {
    swiglu_forward(stored, gate_up, device.stream);
  }
  const QuantizeOptions expected_options{.scale = scale, .counts = empty_quantize_counts(device.stream)};
  const QuantizeOptions options{.scale = scale, .counts = empty_quantize_counts(device.stream)};

  const QuantizedRows expected_rows = empty_quantized_rows(rows, ffn, device.stream);
  const QuantizedRows by_rows = empty_quantized_rows(rows, ffn, device.stream);
  quantize_rows(expected_rows, stored, expected_options, device.stream);
  swiglu_quantize_rows(by_rows, gate_up, weights, options, device.stream);
  CHECK(same(by_rows, expected_rows));

  const std::vector<int64_t> offsets{0, rows / 2, rows / 2, rows};
  const QuantizedColumns expected_columns = empty_quantized_columns(offsets, ffn, device.stream);
  const QuantizedColumns by_columns = empty_quantized_columns(offsets, ffn, device.stream);
  quantize_columns(expected_columns, stored, expected_options, device.stream);
  swiglu_quantize_columns(by_columns, gate_up, weights, options, device.stream);
  CHECK(same(by_columns, expected_columns));
  CHECK(same_bits(options.counts, expected_options.counts));
}

// Everything there is but what goes through an exponential, once; all results as bytes.
std::vector<std::vector<uint8_t>> results_without_swiglu(TestDevice& device, const Tensor& x, const Tensor& index) {
  const int64_t rows = x.size(0), width = x.size(1);
  const std::vector<int64_t> offsets{0, 150, rows};
  std::vector<std::vector<uint8_t>> results;
  const auto keep = [&](const auto& q) {
    results.push_back(bytes_of(q.codes));
    results.push_back(bytes_of(q.scales));
  };
  const QuantizeOptions options{.counts = empty_quantize_counts(device.stream)};
  const QuantizedRows q = empty_quantized_rows(rows, width, device.stream);
  const QuantizedColumns columns = empty_quantized_columns(offsets, width, device.stream);
  const QuantizedBlocks blocks = empty_quantized_blocks(rows, width, device.stream);
  quantize_rows(q, x, options, device.stream);
  keep(q);
  quantize_columns(columns, x, options, device.stream);
  keep(columns);
  quantize_rows_and_columns(q, columns, x, options, device.stream);
  keep(q);
  keep(columns);
  requantize_columns(columns, q, options, device.stream);
  keep(columns);
  quantize_gathered_rows(q, x, index, options, device.stream);
  keep(q);
  quantize_blocks(blocks, x, device.stream);
  keep(blocks);
  const QuantizedRows moved = empty_quantized_rows(rows, width, device.stream);
  gather_quantized_rows(moved, q, index, device.stream);
  keep(moved);
  const Tensor back = device.empty(x.shape(), x.dtype());
  dequantize_rows(back, q, device.stream);
  results.push_back(bytes_of(back));
  results.push_back(bytes_of(options.counts));
  return results;
}

std::vector<std::vector<uint8_t>> results_behind_swiglu(TestDevice& device, const Tensor& gate_up) {
  const int64_t rows = gate_up.size(0), ffn = gate_up.size(1) / 2;
  const QuantizeOptions options{.counts = empty_quantize_counts(device.stream)};
  const QuantizedRows q = empty_quantized_rows(rows, ffn, device.stream);
  const QuantizedColumns columns = empty_quantized_columns({0, rows / 2, rows}, ffn, device.stream);
  swiglu_quantize_rows(q, gate_up, {}, options, device.stream);
  swiglu_quantize_columns(columns, gate_up, {}, options, device.stream);
  return {bytes_of(q.codes), bytes_of(q.scales), bytes_of(columns.codes), bytes_of(columns.scales),
          bytes_of(options.counts)};
}

TEST_CASE("quantize: one thread and several, the same bits", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  constexpr int64_t kRows = 300, kWidth = 280;
  const Tensor x = device.tensor(uneven_rows(kRows, kWidth, 3), Shape{kRows, kWidth}, dtype);
  const Tensor gate_up = device.tensor(normals(kRows * 2 * kWidth, "gate_up", 4), Shape{kRows, 2 * kWidth}, dtype);
  std::vector<int32_t> index;
  for (int32_t i = 0; i < kRows; ++i) index.push_back(i * 7 % kRows);
  const Tensor rows = device.indices(index, Shape{kRows});
  std::vector<std::vector<std::vector<uint8_t>>> results, behind_swiglu;
  for (const int threads : {1, 2, 3}) {
    const ThreadCount now(threads);
    results.push_back(results_without_swiglu(device, x, rows));
    behind_swiglu.push_back(results_behind_swiglu(device, gate_up));
  }
  for (const size_t i : {1, 2}) {
    CHECK(results[i] == results[0]);
    CHECK(behind_swiglu[i] == behind_swiglu[0]);
  }
}

TEST_CASE("quantize: every device has the CPU's codes, scales and counts, bit by bit", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const int64_t rows = GENERATE(151, 300), width = GENERATE(1, 130, 280);
  CAPTURE(name_of(dtype), rows, width);
  const std::vector<double> values = uneven_rows(rows, width, 3);
  std::vector<int32_t> index;
  for (int32_t i = 0; i < rows; ++i) index.push_back(i * 7 % static_cast<int32_t>(rows));
  const auto on = [&](TestDevice& where) {
    return results_without_swiglu(where, where.tensor(values, Shape{rows, width}, dtype),
                                  where.indices(index, Shape{rows}));
  };
  CHECK(on(device) == on(cpu));
}

TEST_CASE("quantize: tiles that are not finite are the same on every device, too", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const TileScale scale = GENERATE(TileScale::kExact, TileScale::kPowerOfTwo);
  constexpr int64_t kRows = 140, kWidth = 270;
  std::vector<double> values = uneven_rows(kRows, kWidth, 3);
  values[7] = kNaN;
  values[139 * kWidth + 269] = std::numeric_limits<double>::infinity();
  const auto on = [&](TestDevice& where) {
    const QuantizeOptions options{.scale = scale, .counts = empty_quantize_counts(where.stream)};
    const Tensor x = where.tensor(values, Shape{kRows, kWidth}, dtype);
    const QuantizedRows q = empty_quantized_rows(kRows, kWidth, where.stream);
    const QuantizedColumns columns = empty_quantized_columns({0, 3, kRows}, kWidth, where.stream);
    const QuantizedBlocks blocks = empty_quantized_blocks(kRows, kWidth, where.stream);
    quantize_rows_and_columns(q, columns, x, options, where.stream);
    quantize_blocks(blocks, x, where.stream);
    std::vector<std::vector<uint8_t>> results;
    for (const Tensor& tensor : {q.codes, q.scales, columns.codes, columns.scales, blocks.codes, blocks.scales}) {
      results.push_back(bytes_of(tensor));
    }
    requantize_columns(columns, q, options, where.stream);
    results.push_back(bytes_of(columns.codes));
    results.push_back(bytes_of(columns.scales));
    results.push_back(bytes_of(options.counts));
    return results;
  };
  CHECK(on(device) == on(cpu));
}

TEST_CASE("quantize: behind swiglu, devices differ by an exponential's last bits", "[cuda]") {
  TestDevice device, cpu(DeviceKind::kCpu);
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  constexpr int64_t kRows = 150, kFfn = 140;
  const std::vector<double> gate_up = normals(kRows * 2 * kFfn, "gate_up", 4);
  const auto on = [&](TestDevice& where) {
    return results_behind_swiglu(where, where.tensor(gate_up, Shape{kRows, 2 * kFfn}, dtype));
  };
  const std::vector<std::vector<uint8_t>> found = on(device), expected = on(cpu);
  for (const size_t codes : {0, 2}) {
    size_t differ = 0;
    int furthest = 0;
    for (size_t i = 0; i < found[codes].size(); ++i) {
      differ += found[codes][i] != expected[codes][i];
      furthest = std::max(furthest, std::abs(int{found[codes][i]} - int{expected[codes][i]}));
    }
    CHECK(differ <= found[codes].size() / 100);
    CHECK(furthest <= 1);
  }
}

TEST_CASE("quantize: more segments than a kernel's parameters hold", "[cuda]") {
  TestDevice device;
  std::vector<int64_t> offsets{0};
  for (int64_t segment = 0; segment < 300; ++segment) offsets.push_back(offsets.back() + segment % 3);
  const int64_t rows = offsets.back();
  constexpr int64_t kWidth = 9;
  const Tensor x = device.tensor(uneven_rows(rows, kWidth, 3), Shape{rows, kWidth}, DType::kF32);
  const QuantizeOptions options{.counts = empty_quantize_counts(device.stream)};
  const QuantizedColumns columns = empty_quantized_columns(offsets, kWidth, device.stream);
  quantize_columns(columns, x, options, device.stream);
  const QuantizedModel model = quantize_model(values_of(x), kWidth, column_tiles(offsets), options);
  CHECK(agrees(columns, model));
  CHECK(values_of(options.counts) == model.counts);
}

TEST_CASE("quantize: no rows, no columns, no segments", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const Shape shape = GENERATE(Shape{0, 5}, Shape{0, 0}, Shape{4, 0});
  const int64_t rows = shape[0], width = shape[1];
  const Tensor x = device.empty(shape, dtype), gate_up = device.empty(Shape{rows, 2 * width}, dtype);
  const Tensor none = device.empty(Shape{0}, DType::kI32);
  const QuantizeOptions options{.counts = empty_quantize_counts(device.stream)};
  const QuantizedRows q = empty_quantized_rows(rows, width, device.stream);
  const QuantizedRows q0 = empty_quantized_rows(0, width, device.stream);
  const QuantizedColumns columns = empty_quantized_columns({0, 0, rows}, width, device.stream);
  quantize_rows(q, x, options, device.stream);
  quantize_columns(columns, x, options, device.stream);
  quantize_rows_and_columns(q, columns, x, options, device.stream);
  quantize_gathered_rows(q0, x, none, options, device.stream);
  quantize_blocks(empty_quantized_blocks(rows, width, device.stream), x, device.stream);
  requantize_columns(columns, q, options, device.stream);
  dequantize_rows(x, q, device.stream);
  gather_quantized_rows(q0, q, none, device.stream);
  swiglu_quantize_rows(q, gate_up, device.empty(Shape{rows}, DType::kF32), options, device.stream);
  swiglu_quantize_columns(columns, gate_up, {}, options, device.stream);
  if (rows == 0) quantize_columns(empty_quantized_columns({0}, width, device.stream), x, options, device.stream);
  CHECK(same_bits(options.counts, empty_quantize_counts(device.stream)));
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

TEST_CASE("quantize: refuses what does not fit", "[cuda]") {
  TestDevice device;
  Stream& stream = device.stream;
  const Tensor x = device.zeros(Shape{5, 200}, DType::kF32);
  const QuantizedRows q = empty_quantized_rows(5, 200, stream);
  const QuantizedColumns columns = empty_quantized_columns({0, 2, 5}, 200, stream);
  CHECK_THROWS_WITH(quantize_rows(empty_quantized_rows(4, 200, stream), x, {}, stream),
                    Contains("[4, 200] vs [5, 200]"));
  CHECK_THROWS_WITH(quantize_rows({q.codes, device.zeros(Shape{5, 1}, DType::kF32)}, x, {}, stream),
                    Contains("[5, 1] vs [5, 2]"));
  CHECK_THROWS_WITH(quantize_rows({q.codes, device.zeros(Shape{5, 2}, DType::kBF16)}, x, {}, stream),
                    Contains("found bf16, expected f32"));
  CHECK_THROWS_WITH(quantize_rows({device.zeros(Shape{5, 200}, DType::kU8), q.scales}, x, {}, stream),
                    Contains("found u8, expected e4m3"));
  CHECK_THROWS_WITH(quantize_rows({}, x, {}, stream), Contains("codes and scales are needed"));
  CHECK_THROWS_WITH(quantize_rows(q, device.zeros(Shape{5, 200}, DType::kF64), {}, stream),
                    Contains("found f64, expected f32 or bf16"));
  CHECK_THROWS_WITH(quantize_rows(q, device.zeros(Shape{1000}, DType::kF32), {}, stream),
                    Contains("x is [1000], expected [rows, width]"));
  CHECK_THROWS_WITH(quantize_rows(q, x, {.min_amax = 0}, stream), Contains("min_amax is 0, expected a number from"));
  CHECK_THROWS_WITH(quantize_rows(q, x, {.counts = device.zeros(Shape{5}, DType::kF64)}, stream),
                    Contains("[5] vs [6]"));
  CHECK_THROWS_WITH(quantize_rows(q, x, {.counts = device.zeros(Shape{6}, DType::kF32)}, stream),
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
  wrong.scales = device.zeros(Shape{1, 200}, DType::kF32);
  CHECK_THROWS_WITH(quantize_columns(wrong, x, {}, stream), Contains("[1, 200] vs [2, 200]"));
  CHECK_THROWS_WITH(quantize_rows_and_columns({}, columns, x, {}, stream), Contains("codes and scales are needed"));
  CHECK_THROWS_WITH(quantize_rows_and_columns(q, wrong, x, {}, stream), Contains("[1, 200] vs [2, 200]"));
  CHECK_THROWS_WITH(quantize_blocks(empty_quantized_blocks(200, 5, stream), x, stream),
                    Contains("[200, 5] vs [5, 200]"));

  const Tensor beyond = device.indices({0, 1, 2, 3, 5}, Shape{5}), below = device.indices({0, -1, 2, 3, 4}, Shape{5});
  if (device.stream.device() == DeviceKind::kCpu) {
    CHECK_THROWS_WITH(quantize_gathered_rows(q, x, beyond, {}, stream), Contains("index[4] is 5, x has 5 rows"));
    CHECK_THROWS_WITH(gather_quantized_rows(q, q, below, stream), Contains("index[1] is -1, x has 5 rows"));
  } else {
    // The host does not wait for a GPU: the row is NaN.
    const auto is_nan = [&] {
      std::vector<bool> result;
      for (const double scale : values_of(q.scales.columns(0, 1))) result.push_back(std::isnan(scale));
      return result;
    };
    const QuantizedRows zeros = empty_quantized_rows(5, 200, stream);
    quantize_rows(zeros, x, {}, stream);
    quantize_gathered_rows(q, x, beyond, {}, stream);
    CHECK(is_nan() == std::vector<bool>{false, false, false, false, true});
    gather_quantized_rows(q, zeros, below, stream);
    CHECK(is_nan() == std::vector<bool>{false, true, false, false, false});
  }
  CHECK_THROWS_WITH(gather_quantized_rows(q, q, device.indices({0, 1}, Shape{2}), stream),
                    Contains("[5, 200] vs [2, 200]"));
  CHECK_THROWS_WITH(requantize_columns(columns, {}, {}, stream), Contains("x is not quantised rows"));
  CHECK_THROWS_WITH(dequantize_rows(device.zeros(Shape{5, 100}, DType::kF32), q, stream),
                    Contains("[5, 200] vs [5, 100]"));
  CHECK_THROWS_WITH(swiglu_quantize_rows(q, device.zeros(Shape{5, 399}, DType::kF32), {}, {}, stream),
                    Contains("gate_up is [5, 399], expected [rows, 2 * ffn]"));
  CHECK_THROWS_WITH(swiglu_quantize_rows(q, device.zeros(Shape{5, 400}, DType::kF32),
                                         device.zeros(Shape{4}, DType::kF32), {}, stream),
                    Contains("[4] vs [5]"));
  CHECK_THROWS_WITH(swiglu_quantize_columns(columns, device.zeros(Shape{4, 400}, DType::kF32), {}, {}, stream),
                    Contains("the segments end at row 5 of 4"));
}

}  // namespace
}  // namespace shoal
