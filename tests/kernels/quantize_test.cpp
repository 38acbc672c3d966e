// tests/kernels/quantize_test.cpp: rows, columns and blocks in FP8 against a plain model; every fused form bitwise.
#include "kernels/quantize.h"

#include <catch2/catch.hpp>

#include <cmath>

#include "tests/kernels/quantize_model.h"

namespace shoal {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

// Numbers over 12 powers of two and more, so that some tiles hold normal codes, subnormal ones, and what is flushed;
// every eleventh is zero, some of them negative.
std::vector<double> mixed_numbers(int64_t count) {
  std::vector<double> values = normals(count, "x");
  const std::vector<double> exponents = normals(count, "exponents", 4);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] *= std::exp2(exponents[i]);
    if (i % 11 == 5) values[i] = std::copysign(0.0, values[i]);
  }
  return values;
}

// A range of a wider tensor's columns.
Tensor strided(TestDevice& device, const Tensor& tensor) {
  const int64_t rows = tensor.size(0), width = tensor.size(1), apart = width + 5;
  const Tensor wide = device.empty(Shape{rows, apart}, tensor.dtype());
  const auto copy = [&]<class T>(T) {
    const std::vector<T> values = tensor.to_vector<T>();
    std::vector<T> spread(static_cast<size_t>(rows * apart), T{});
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(values.begin() + row * width, width, spread.begin() + row * apart + 3);
    }
    wide.copy_from(spread);
  };
  if (tensor.dtype() == DType::kE4M3) {
    copy(float8_e4m3{});
  } else {
    dispatch_floating(tensor.dtype(), copy);
  }
  return wide.columns(3, width);
}

QuantizedRows rows_like(TestDevice& device, const Tensor& x) {
  return empty_quantized_rows(x.size(0), x.size(1), device.stream);
}
QuantizedColumns columns_like(TestDevice& device, const Tensor& x, std::vector<int64_t> offsets) {
  return empty_quantized_columns(std::move(offsets), x.size(1), device.stream);
}

// As one segment; and as several, one of them empty, none a multiple of a tile.
std::vector<std::vector<int64_t>> segmentations(int64_t rows) {
  return {{0, rows}, {0, rows / 3, rows / 3, rows - rows / 5, rows}};
}

struct Case {
  DType dtype = DType::kF32;
  QuantizeOptions options;
};

Case generate_case(TestDevice& device) {
  Case c;
  c.dtype = GENERATE(DType::kF32, DType::kBF16);
  c.options.scale = GENERATE(TileScale::kExact, TileScale::kPowerOfTwo);
  c.options.counts = empty_quantize_counts(device.stream);
  return c;
}

TEST_CASE("quantize: rows, columns and blocks agree with plain loops, of any size and stride", "[cuda]") {
  TestDevice device;
  const Case c = generate_case(device);
  const int64_t rows = GENERATE(1, 7, 127, 128, 129, 300), width = GENERATE(1, 7, 127, 128, 129, 300);
  CAPTURE(name_of(c.dtype), c.options.scale == TileScale::kExact, rows, width);
  const Tensor x = device.tensor(mixed_numbers(rows * width), Shape{rows, width}, c.dtype);
  const std::vector<double> values = values_of(x);

  const QuantizedRows by_rows = rows_like(device, x);
  quantize_rows(by_rows, x, c.options, device.stream);
  const QuantizedModel model = quantize_model(values, width, row_tiles(rows), c.options);
  CHECK(agrees(by_rows, model));
  CHECK(values_of(c.options.counts) == model.counts);

  const QuantizedRows apart{strided(device, rows_like(device, x).codes), strided(device, rows_like(device, x).scales)};
  quantize_rows(apart, strided(device, x), {.scale = c.options.scale}, device.stream);
  CHECK(agrees(apart, model));

  for (const std::vector<int64_t>& offsets : segmentations(rows)) {
    QuantizeOptions options = c.options;
    options.counts = empty_quantize_counts(device.stream);
    const QuantizedColumns by_columns = columns_like(device, x, offsets);
    quantize_columns(by_columns, strided(device, x), options, device.stream);
    const QuantizedModel columns_model = quantize_model(values, width, column_tiles(offsets), options);
    CHECK(agrees(by_columns, columns_model));
    CHECK(values_of(options.counts) == columns_model.counts);

    // Both at once: the same bits, counted as rows.
    const QuantizedRows both_rows = rows_like(device, x);
    const QuantizedColumns both_columns = columns_like(device, x, offsets);
    options.counts = empty_quantize_counts(device.stream);
    quantize_rows_and_columns(both_rows, both_columns, x, options, device.stream);
    CHECK(same(both_rows, by_rows));
    CHECK(same(both_columns, by_columns));
    CHECK(same_bits(options.counts, c.options.counts));
  }

  const QuantizedBlocks blocks = empty_quantized_blocks(rows, width, device.stream);
  quantize_blocks(blocks, strided(device, x), device.stream);
  CHECK(agrees(blocks, blocks_model(values, rows, width)));
}

TEST_CASE("quantize: counts add up over calls", "[cuda]") {
  TestDevice device;
  const Tensor counts = empty_quantize_counts(device.stream);
  CHECK(values_of(counts) == std::vector<double>{0, 0, 0, 0, kInf, 0});
  const Tensor x = device.tensor({448, -448, 0.0009, 0, 1, 2}, Shape{1, 6}, DType::kF32);
  const Tensor y = device.tensor({-896, 895.9, -0.0, -0.0001, kNaN}, Shape{5, 1}, DType::kF32);
  quantize_rows(rows_like(device, x), x, {.counts = counts}, device.stream);
  CHECK(values_of(counts) == std::vector<double>{6, 2, 1, 0, 1, 1});
  quantize_columns(columns_like(device, y, {0, 4, 5}), y, {.counts = counts}, device.stream);
  CHECK(values_of(counts) == std::vector<double>{11, 4, 2, 1, 1, 2});
}

TEST_CASE("quantize: gathered rows are rows gathered, before or after", "[cuda]") {
  TestDevice device;
  const Case c = generate_case(device);
  const int64_t width = GENERATE(1, 129, 300);
  const Tensor x = device.tensor(mixed_numbers(60 * width), Shape{60, width}, c.dtype);
  std::vector<int32_t> index;
  for (int32_t i = 0; i < 100; ++i) index.push_back(i * 37 % 59);
  const Tensor rows = device.indices(index, Shape{100});

  const std::vector<double> values = values_of(x);
  std::vector<double> gathered_values;
  for (const int32_t row : index) {
    gathered_values.insert(gathered_values.end(), values.begin() + row * width, values.begin() + (row + 1) * width);
  }
  const Tensor gathered = device.tensor(gathered_values, Shape{100, width}, c.dtype);
  const QuantizedRows expected = rows_like(device, gathered), at_once = rows_like(device, gathered);
  quantize_rows(expected, gathered, c.options, device.stream);
  const Tensor counts = empty_quantize_counts(device.stream);
  quantize_gathered_rows(at_once, strided(device, x), rows, {.scale = c.options.scale, .counts = counts},
                         device.stream);
  CHECK(same(at_once, expected));
  CHECK(same_bits(counts, c.options.counts));

  const QuantizedRows all = rows_like(device, x), after = rows_like(device, gathered);
  quantize_rows(all, x, c.options, device.stream);
  gather_quantized_rows(after, all, rows, device.stream);
  CHECK(same(after, expected));
  const QuantizedRows apart{strided(device, all.codes), strided(device, all.scales)};
  gather_quantized_rows({strided(device, after.codes), strided(device, after.scales)}, apart, rows, device.stream);
  CHECK(same(after, expected));
}

TEST_CASE("quantize: tiles of zeros, and tiles at both ends of f32", "[cuda]") {
  TestDevice device;
  const Case c = generate_case(device);
  constexpr int64_t kRows = 130, kWidth = 260;
  std::vector<double> values(kRows * kWidth, 0.0);
  const auto at = [&](int64_t row, int64_t column) -> double& {
    return values[static_cast<size_t>(row * kWidth + column)];
  };
  at(0, 0) = 3e38;
  at(0, 1) = -1e37;
  at(1, 130) = 1e-37;  // below kMinGradientAmax: flushed
  at(129, 259) = 1e-29;
  at(129, 258) = -1e-31;
  const Tensor x = device.tensor(values, Shape{kRows, kWidth}, c.dtype);
  values = values_of(x);
  const float min_amax = GENERATE(as<float>(), kMinActivationAmax, kMinGradientAmax);
  QuantizeOptions options = c.options;
  options.min_amax = min_amax;
  const QuantizedRows rows = rows_like(device, x);
  quantize_rows(rows, x, options, device.stream);
  CHECK(agrees(rows, quantize_model(values, kWidth, row_tiles(kRows), options)));
  if (options.scale == TileScale::kExact) CHECK(rows.scales.to_vector<float>()[5 * 3] == min_amax / 448);
  const QuantizedColumns columns = columns_like(device, x, {0, kRows});
  quantize_columns(columns, x, options, device.stream);
  CHECK(agrees(columns, quantize_model(values, kWidth, column_tiles({0, kRows}), options)));

  const QuantizedBlocks blocks = empty_quantized_blocks(kRows, kWidth, device.stream);
  quantize_blocks(blocks, x, device.stream);
  CHECK(agrees(blocks, blocks_model(values, kRows, kWidth)));
  const std::vector<float> scales = blocks.scales.to_vector<float>();
  CHECK(scales[0] > 1e35f);
  CHECK(scales[1] == kMinWeightAmax / 448);
  CHECK(scales[2] == 1);
}

TEST_CASE("quantize: a NaN or an infinity makes its tile's scale NaN, its codes 0, and leaves all others alone",
          "[cuda]") {
  TestDevice device;
  const Case c = generate_case(device);
  const double bad = GENERATE(as<double>(), kNaN, -kNaN, kInf, -kInf);
  CAPTURE(name_of(c.dtype), c.options.scale == TileScale::kExact, bad);
  constexpr int64_t kRows = 300, kWidth = 300;
  std::vector<double> values = mixed_numbers(kRows * kWidth);
  for (const int64_t row : {0, 140, 299}) values[static_cast<size_t>(row * kWidth + row)] = bad;
  values[5] = bad;
  const Tensor x = device.tensor(values, Shape{kRows, kWidth}, c.dtype);
  values = values_of(x);

  QuantizedModel model = quantize_model(values, kWidth, row_tiles(kRows), c.options);
  CHECK(model.counts[kNotFinite] == 3);
  const QuantizedRows rows = rows_like(device, x);
  quantize_rows(rows, x, c.options, device.stream);
  CHECK(agrees(rows, model));
  CHECK(values_of(c.options.counts) == model.counts);

  QuantizeOptions options = c.options;
  options.counts = empty_quantize_counts(device.stream);
  model = quantize_model(values, kWidth, column_tiles({0, 200, kRows}), options);
  CHECK(model.counts[kNotFinite] == 4);
  const QuantizedColumns columns = columns_like(device, x, {0, 200, kRows});
  quantize_columns(columns, x, options, device.stream);
  CHECK(agrees(columns, model));
  CHECK(values_of(options.counts) == model.counts);

  const QuantizedRows both_rows = rows_like(device, x);
  const QuantizedColumns both_columns = columns_like(device, x, {0, 200, kRows});
  quantize_rows_and_columns(both_rows, both_columns, x, options, device.stream);
  CHECK(same(both_rows, rows));
  CHECK(same(both_columns, columns));

  const QuantizedBlocks blocks = empty_quantized_blocks(kRows, kWidth, device.stream);
  quantize_blocks(blocks, x, device.stream);
  CHECK(agrees(blocks, blocks_model(values, kRows, kWidth)));

  // What is read back is NaN in those tiles and nowhere else.
  const Tensor back = device.empty(x.shape(), c.dtype);
  dequantize_rows(back, rows, device.stream);
  const std::vector<double> read = values_of(back);
  CHECK(std::count_if(read.begin(), read.end(), [](double v) { return std::isnan(v); }) == 128 + 128 + 44);
}

TEST_CASE("quantize: what is read back is code times scale, rounded once", "[cuda]") {
  TestDevice device;
  const Case c = generate_case(device);
  const int64_t rows = GENERATE(1, 130), width = GENERATE(7, 128, 300);
  const Tensor x = device.tensor(mixed_numbers(rows * width), Shape{rows, width}, DType::kF32);
  const QuantizedRows q = rows_like(device, x);
  quantize_rows(q, x, c.options, device.stream);
  const Tensor out = strided(device, device.zeros(x.shape(), c.dtype));
  dequantize_rows(out, q, device.stream);
  const std::vector<double> scales = values_of(q.scales);
  const std::vector<uint8_t> codes = bytes_of(q.codes);
  std::vector<double> expected;
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t row = i / static_cast<size_t>(width), column = i % static_cast<size_t>(width);
    const double scale = scales[row * static_cast<size_t>(num_tiles(width)) + column / kTile];
    expected.push_back(static_cast<double>(static_cast<float>(e4m3_value(codes[i]) * scale)));
  }
  CHECK(values_of(out) == values_of(device.tensor(expected, x.shape(), c.dtype)));
}

// At a scale of 1, so that nothing but the encoding rounds: a device's own instruction must do as E4M3::encode does.
TEST_CASE("quantize: every bf16 number up to 448, and f32's next to it, have the codes that E4M3 says", "[cuda]") {
  TestDevice device;
  const DType dtype = GENERATE(DType::kBF16, DType::kF32);
  const float towards = dtype == DType::kBF16 ? 0.0f : GENERATE(-449.0f, 449.0f);
  std::vector<double> values;
  for (uint32_t bits = 0; bits < 1u << 16; ++bits) {
    float value = static_cast<float>(bfloat16::from_bits(static_cast<uint16_t>(bits)));
    if (dtype == DType::kF32) value = std::nextafter(value, towards);
    if (!(std::abs(value) <= 448)) continue;
    if (values.size() % kTile == 0) values.push_back(448);
    values.push_back(value);
  }
  while (values.size() % kTile != 0) values.push_back(0);
  const int64_t rows = static_cast<int64_t>(values.size()) / kTile;
  const Tensor x = device.tensor(values, Shape{rows, kTile}, dtype);
  const QuantizedRows q = rows_like(device, x);
  quantize_rows(q, x, {}, device.stream);
  const Tensor out = device.zeros(x.shape(), DType::kF32);
  dequantize_rows(out, q, device.stream);
  CHECK(values_of(q.scales) == std::vector<double>(static_cast<size_t>(rows), 1.0));
  std::vector<uint8_t> expected;
  std::vector<double> decoded;
  for (const double value : values) {
    expected.push_back(static_cast<uint8_t>(E4M3::encode(static_cast<float>(value))));
    decoded.push_back(e4m3_value(expected.back()));
  }
  CHECK(bytes_of(q.codes) == expected);
  CHECK(values_of(out) == decoded);
}

}  // namespace
}  // namespace shoal
